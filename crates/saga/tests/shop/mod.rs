//! A small shop for tests: commands, participants that count their effects, definitions.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sagamill_bus::Bus;
use sagamill_eventstore::EventStore;
use sagamill_saga::prelude::*;
use sagamill_saga::{Never, Result};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reserve {
    pub(crate) sku: String,
}
impl Command for Reserve {
    const NAME: &'static str = "stock.reserve";
    type Reply = u64;
    type Rejection = String;
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) cents: u32,
}
impl Command for Charge {
    const NAME: &'static str = "payment.charge";
    type Reply = ();
    type Rejection = String;
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ship {
    pub(crate) reservation: u64,
}
impl Command for Ship {
    const NAME: &'static str = "shipping.ship";
    type Reply = ();
    type Rejection = Never;
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) sku: String,
    pub(crate) cents: u32,
    #[serde(default)]
    pub(crate) reservation: u64,
}

pub(crate) fn order(sku: &str, cents: u32) -> Order {
    Order {
        sku: sku.into(),
        cents,
        reservation: 0,
    }
}

/// What the participants have done, by saga key: the order of effects.
#[derive(Debug, Clone, Default)]
pub(crate) struct World(pub(crate) Arc<Mutex<BTreeMap<String, Vec<&'static str>>>>);

impl World {
    pub(crate) fn did(&self, key: &str, what: &'static str) {
        self.0.lock().unwrap().entry(key.to_owned()).or_default().push(what);
    }
    pub(crate) fn of(&self, key: &str) -> Vec<&'static str> {
        self.0.lock().unwrap().get(key).cloned().unwrap_or_default()
    }
}

async fn reserve(State(world): State<World>, saga: SagaContext, command: Reserve) -> Answer<u64, String> {
    if command.sku == "gone" {
        return Rejected("out of stock".into());
    }
    world.did(&saga.key, "reserve");
    Done(7)
}
async fn release(State(world): State<World>, saga: SagaContext, undo: Undo<Reserve>) {
    assert_eq!(undo.reply, 7);
    world.did(&saga.key, "release");
}
async fn charge(State(world): State<World>, saga: SagaContext, command: Charge) -> Answer<(), String> {
    if command.cents > 1_000 {
        return Rejected("declined".into());
    }
    world.did(&saga.key, "charge");
    Done(())
}
async fn ship(State(world): State<World>, saga: SagaContext, command: Ship) -> Answer<()> {
    assert_eq!(command.reservation, 7);
    world.did(&saga.key, "ship");
    Done(())
}

/// By the bus: reserve, then charge as the pivot, then ship.
pub(crate) fn by_bus() -> Definition<Order> {
    Saga::define("by-bus")
        .step(
            "reserve",
            call(|order: &Order| Reserve { sku: order.sku.clone() })
                .on_reply(|order, id| order.reservation = id)
                .undo(),
        )
        .pivot("charge", call(|order: &Order| Charge { cents: order.cents }))
        .step(
            "ship",
            call(|order: &Order| Ship {
                reservation: order.reservation,
            }),
        )
        .build()
}

/// The participants of all three services, on a store of their own.
pub(crate) fn participants<D: 'static>(store: &EventStore<D>, world: &World) -> Participant<D> {
    Participant::new(store)
        .on(reserve)
        .undo(release)
        .on(charge)
        .on(ship)
        .with_state(world.clone())
}

/// The participant of the stock alone, on a store of its own.
pub(crate) fn stock<D: 'static>(store: &EventStore<D>, world: &World) -> Participant<D> {
    Participant::new(store)
        .on(reserve)
        .undo(release)
        .with_state(world.clone())
}

async fn reserve_here(State(world): State<World>, saga: SagaContext, order: Order) -> Answer<u64, String> {
    if order.sku == "gone" {
        return Rejected("out of stock".into());
    }
    world.did(&saga.key, "reserve");
    Done(7)
}
async fn release_here(State(world): State<World>, saga: SagaContext, reservation: u64) {
    assert_eq!(reservation, 7);
    world.did(&saga.key, "release");
}
async fn charge_here(State(world): State<World>, saga: SagaContext, order: Order) -> Answer<(), String> {
    if order.cents > 1_000 {
        return Rejected("declined".into());
    }
    world.did(&saga.key, "charge");
    Done(())
}
async fn ship_here(State(world): State<World>, saga: SagaContext, order: Order) -> Answer<()> {
    assert_eq!(order.reservation, 7);
    world.did(&saga.key, "ship");
    Done(())
}

/// The same with local, idempotent steps.
pub(crate) fn locally() -> Definition<Order> {
    Saga::define("locally")
        .step(
            "reserve",
            local(reserve_here)
                .on_reply(|order: &mut Order, id| order.reservation = id)
                .undo(release_here),
        )
        .pivot("charge", local(charge_here))
        .step("ship", local(ship_here))
        .build()
}

/// Every third order is too dear, and declined.
pub(crate) fn price(n: u32) -> u32 {
    if n.is_multiple_of(3) { 5_000 } else { 450 }
}

/// What a saga's participants must have done in the end.
pub(crate) fn expected(n: u32) -> Vec<&'static str> {
    if n.is_multiple_of(3) {
        vec!["reserve", "release"]
    } else {
        vec!["reserve", "charge", "ship"]
    }
}

/// Runs until it is told to stop.
pub(crate) struct Running {
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<Result<()>>,
}

impl Running {
    pub(crate) fn participant<D: 'static + Send + Sync>(participant: Participant<D>, bus: &Bus) -> Self {
        let (stop, bus) = (CancellationToken::new(), bus.clone());
        let until = stop.clone().cancelled_owned();
        Self {
            task: tokio::spawn(async move { participant.run(&bus, until).await }),
            stop,
        }
    }
    pub(crate) fn coordinator<D: 'static + Send + Sync>(coordinator: &Coordinator<D>) -> Self {
        let stop = CancellationToken::new();
        Self {
            task: tokio::spawn(coordinator.clone().run(stop.clone().cancelled_owned())),
            stop,
        }
    }
    /// Stops as an operator would.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
    /// Stops as a power cut would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub(crate) fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

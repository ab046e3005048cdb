//! A step that is renamed under sagas in flight: they go on, under the same effect ids.
#![allow(clippy::unwrap_used, reason = "tests")]
mod shop;

use std::{collections::BTreeSet, sync::Arc};

use sagamill_bus::Bus;
use sagamill_eventstore::{Memory, Recorded};
use sagamill_saga::prelude::*;
use sagamill_saga::{
    Error,
    core::{Fact, Phase, SagaEvent},
};
use shop::{Charge, Order, Reserve, Running, Ship, World, order, participants, secs};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// The saga by the bus, as it was first written.
fn before() -> Definition<Order> {
    Saga::define("order")
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

/// The same, with other words for two of its steps.
fn after() -> Definition<Order> {
    Saga::define("order")
        .step(
            "hold",
            call(|order: &Order| Reserve { sku: order.sku.clone() })
                .on_reply(|order, id| order.reservation = id)
                .undo()
                .was("reserve"),
        )
        .pivot("charge", call(|order: &Order| Charge { cents: order.cents }))
        .step(
            "send",
            call(|order: &Order| Ship {
                reservation: order.reservation,
            })
            .was("ship")
            .was("deliver"),
        )
        .build()
}

/// The events of a saga.
async fn events(log: &Memory, key: &str) -> Vec<SagaEvent> {
    let mut read = log.open().read(format!("saga-order/{key}"));
    let mut events = Vec::new();
    while let Some(event) = read.next().await {
        let event: Recorded = event.unwrap();
        events.push(SagaEvent::decode(&event).unwrap().event);
    }
    events
}

/// The effect ids under which a step, by any of its names, was asked, done and undone.
fn effects(events: &[SagaEvent], names: [&str; 2]) -> BTreeSet<Uuid> {
    let asks = events.iter().filter_map(|event| event.fact.ask());
    let of = asks.filter(|ask| names.contains(&&*ask.step) && ask.phase == Phase::Forward);
    of.map(|ask| ask.effect).collect()
}

#[tokio::test(start_paused = true)]
async fn a_saga_in_flight_goes_on_under_the_effect_ids_that_it_has() {
    let (log, theirs, world, bus) = (Memory::new(), Memory::new(), World::default(), Bus::memory());
    let coordinator = Coordinator::new(&log.open()).bus(bus.clone());
    let sagas = coordinator.register(before()).unwrap();
    let running = Running::coordinator(&coordinator);
    sagas.start("a", order("tea", 450)).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    running.end().await;
    let asked = effects(&events(&log, "a").await, ["reserve", "hold"]);
    assert_eq!(asked.len(), 1, "it waits for the stock");

    let coordinator = Coordinator::new(&log.open()).bus(bus.clone());
    let sagas = coordinator.register(after()).unwrap();
    let running = Running::coordinator(&coordinator);
    let served = Running::participant(participants(&theirs.open(), &world), &bus);
    let outcome = sagas.get("a").await.unwrap().outcome().await.unwrap();
    assert!(
        matches!(&outcome, Outcome::Completed(order) if order.reservation == 7),
        "{outcome:?}"
    );
    let events = events(&log, "a").await;
    assert_eq!(effects(&events, ["reserve", "hold"]), asked);
    assert_eq!(world.of("a"), ["reserve", "charge", "ship"]);
    running.end().await;
    served.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_renamed_step_is_undone_by_its_effect_id() {
    let (log, theirs, world, bus) = (Memory::new(), Memory::new(), World::default(), Bus::memory());
    let coordinator = Coordinator::new(&log.open()).bus(bus.clone());
    let sagas = coordinator.register(before()).unwrap();
    let running = Running::coordinator(&coordinator);
    let stock = Running::participant(shop::stock(&theirs.open(), &world), &bus);
    // The card will be declined.
    sagas.start("a", order("tea", 5_000)).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(world.of("a"), ["reserve"]);
    running.end().await;
    stock.end().await;

    let coordinator = Coordinator::new(&log.open()).bus(bus.clone());
    let sagas = coordinator.register(after()).unwrap();
    let running = Running::coordinator(&coordinator);
    let served = Running::participant(participants(&theirs.open(), &world), &bus);
    let saga = sagas.get("a").await.unwrap();
    let outcome = saga.outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::Compensated { .. }), "{outcome:?}");
    assert_eq!(world.of("a"), ["reserve", "release"]);
    let events = events(&log, "a").await;
    let undone = events.iter().find_map(|event| match &event.fact {
        Fact::UndoDone { ask } => Some(ask.effect),
        _ => None,
    });
    let effects = effects(&events, ["reserve", "hold"]);
    assert_eq!(effects.into_iter().collect::<Vec<_>>(), [undone.unwrap()]);
    running.end().await;
    served.end().await;
}

/// Lets local steps end, one for each permit.
type Gate = Arc<Semaphore>;

async fn hold(State(world): State<World>, State(gate): State<Gate>, saga: SagaContext, _: Order) -> Answer<u64> {
    world.did(&saga.key, "begun");
    gate.acquire().await.unwrap().forget();
    world.did(&saga.key, "held");
    Done(7)
}
async fn free(State(world): State<World>, saga: SagaContext, _: u64) {
    world.did(&saga.key, "freed");
}
async fn charge(State(world): State<World>, saga: SagaContext, order: Order) -> Answer<(), String> {
    if order.cents > 1_000 {
        return Rejected("declined".into());
    }
    world.did(&saga.key, "charged");
    Done(())
}

#[tokio::test(start_paused = true)]
async fn a_renamed_local_step_that_was_running_is_run_again_and_undone() {
    let before = Saga::define("order")
        .step("reserve", local(hold).undo(free))
        .pivot("charge", local(charge))
        .build();
    let after = Saga::define("order")
        .step("hold", local(hold).undo(free).was("reserve"))
        .pivot("pay", local(charge).was("charge"))
        .build();
    let (log, world, gate) = (Memory::new(), World::default(), Gate::new(Semaphore::new(0)));
    let coordinator = |definition| {
        let coordinator = Coordinator::new(&log.open())
            .with_state(world.clone())
            .with_state(gate.clone());
        let sagas = coordinator.register(definition).unwrap();
        (sagas, Running::coordinator(&coordinator))
    };
    let (sagas, running) = coordinator(before);
    sagas.start("a", order("tea", 450)).await.unwrap();
    sagas.start("b", order("tea", 5_000)).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    assert_eq!((world.of("a"), world.of("b")), (vec!["begun"], vec!["begun"]));
    running.kill().await;
    let asked: Vec<_> = events(&log, "b")
        .await
        .iter()
        .flat_map(|event| event.begun.clone())
        .collect();

    gate.add_permits(2);
    let (sagas, running) = coordinator(after);
    let outcome = sagas.get("a").await.unwrap().outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::Completed(_)), "{outcome:?}");
    let outcome = sagas.get("b").await.unwrap().outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::Compensated { .. }), "{outcome:?}");
    assert_eq!(world.of("a"), ["begun", "begun", "held", "charged"]);
    assert_eq!(world.of("b"), ["begun", "begun", "held", "freed"]);
    let done = events(&log, "b").await.iter().find_map(|event| match &event.fact {
        Fact::StepDone { ask, .. } => Some(ask.effect),
        _ => None,
    });
    assert_eq!(done, Some(asked[0].effect));
    running.end().await;
}

/// What a saga was started with is what it says to all: to the binary beside that has the old names only, and to that
/// which comes back when the new one is taken back.
#[tokio::test(start_paused = true)]
async fn the_old_binary_can_go_on_with_what_the_new_one_has_touched() {
    let (log, theirs, world, bus) = (Memory::new(), Memory::new(), World::default(), Bus::memory());
    let old = Coordinator::new(&log.open()).bus(bus.clone());
    let sagas = old.register(before()).unwrap();
    sagas.start("a", order("tea", 450)).await.unwrap();
    let new = Coordinator::new(&log.open()).bus(bus.clone());
    let renamed = new.register(after()).unwrap();
    let running = Running::coordinator(&new);
    let stock = Running::participant(shop::stock(&theirs.open(), &world), &bus);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(world.of("a"), ["reserve"], "the new one asked for it");
    let state = renamed.get("a").await.unwrap().state().await.unwrap();
    assert_eq!(
        state.names.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["reserve", "charge", "ship"]
    );
    running.end().await;
    stock.end().await;
    let running = Running::coordinator(&old);
    let served = Running::participant(participants(&theirs.open(), &world), &bus);
    let outcome = sagas.get("a").await.unwrap().outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::Completed(_)), "{outcome:?}");
    assert_eq!(world.of("a"), ["reserve", "charge", "ship"]);
    running.end().await;
    served.end().await;
}

#[tokio::test]
async fn a_name_that_may_mean_two_steps_is_refused() {
    let step = || call(|order: &Order| Charge { cents: order.cents }).no_undo();
    let refused = |definition: Definition<Order>| {
        let refused = Coordinator::new(&Memory::new().open()).register(definition);
        match refused {
            Err(Error::Definition { problems, .. }) => problems.join("; "),
            other => panic!("{other:?}"),
        }
    };
    let swapped = Saga::define("order")
        .step("a", step().was("b"))
        .step("b", step().was("a"))
        .build();
    assert!(refused(swapped).contains("`b`"));
    let shared = Saga::define("order")
        .step("a", step().was("x"))
        .step("b", step().was("x"))
        .build();
    assert!(refused(shared).contains("`x`"));
    let later = Saga::define("order")
        .step("a", step())
        .step("b", step().was("a"))
        .build();
    assert!(refused(later).contains("`a`"));
    let own = Saga::define("order").step("a", step().was("a")).build();
    assert!(refused(own).contains("`a`"));
    let many = ["c", "d", "e", "f", "g"]
        .into_iter()
        .fold(Saga::define("order"), |saga, name| {
            let was: &'static str = Box::leak(format!("{name}-before").into_boxed_str());
            saga.step(name, step().was(was))
        });
    assert!(refused(many.build()).contains("earlier names"));
}

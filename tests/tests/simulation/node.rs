//! The processes of a schedule: each on a log that outlives it, and gone without a goodbye when it is killed.

use std::{collections::BTreeMap, time::Duration};

use sagamill::{
    bus::{Bus, memory::Memory as Broker},
    eventstore::{Memory, Relay},
    prelude::*,
    saga::Sagas,
};
use tokio::task::JoinSet;

use crate::{
    trace::Trace,
    world::{Authorize, Binary, Book, Capture, Notify, Plan, Reserve, World, act, undo},
};

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of two coordinators on one log.
    Coordinator,
    Stock,
    Money,
    Parcel,
}

/// How long a definition may be known to nobody.
const GRACE: Duration = Duration::from_secs(3);

/// All that a schedule runs on.
pub(crate) struct Site {
    pub(crate) trace: Trace,
    pub(crate) world: World,
    pub(crate) broker: Broker,
    /// How long a coordinator may be silent.
    pub(crate) lease: Duration,
    /// The log of the coordinators, and those of the three participants.
    pub(crate) logs: [Memory; 4],
}

/// A process. Dropped, it is killed: its tasks end at whatever they were waiting for.
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Of a coordinator: how sagas are started, by the version of their definition.
    pub(crate) sagas: BTreeMap<u32, Sagas<Plan>>,
    tasks: JoinSet<String>,
}

impl Node {
    /// A coordinator runs this binary.
    pub(crate) fn start(kind: Kind, binary: Binary, site: &Site) -> Self {
        let (world, bus) = (site.world.clone(), site.trace.tap(site.broker.connect()));
        site.trace.note(format_args!("start {kind:?} {binary:?}"));
        let mut sagas = BTreeMap::new();
        let mut tasks = JoinSet::new();
        match kind {
            Kind::Coordinator => {
                let coordinator = Coordinator::new(&site.logs[0].open()).with_state(world).bus(bus);
                let coordinator = coordinator.lease(site.lease).park_unknown_after(GRACE);
                for definition in binary.definitions() {
                    let version = definition.version();
                    let of = coordinator.register(definition).expect("the definition is well formed");
                    sagas.insert(version, of);
                }
                tasks.spawn(async move { format!("{:?}", coordinator.run(std::future::pending()).await) });
            }
            Kind::Stock => {
                let store = site.logs[1].open();
                serve(
                    &mut tasks,
                    &store,
                    &bus,
                    Participant::new(&store).on(reserve).undo(release).with_state(world),
                );
            }
            Kind::Money => {
                let store = site.logs[2].open();
                let money = Participant::new(&store)
                    .on(authorize)
                    .undo(void)
                    .on(capture)
                    .with_state(world);
                serve(&mut tasks, &store, &bus, money);
            }
            Kind::Parcel => {
                let store = site.logs[3].open();
                let parcel = Participant::new(&store)
                    .on(book)
                    .undo(cancel)
                    .on(notify)
                    .with_state(world);
                serve(&mut tasks, &store, &bus, parcel);
            }
        }
        Self { kind, sagas, tasks }
    }
    /// Whether one of its tasks has ended, which none should but by a kill.
    pub(crate) fn broken(&mut self) -> Option<String> {
        match self.tasks.try_join_next()? {
            Ok(said) => Some(format!("{:?} ended by itself: {said}", self.kind)),
            Err(ended) => Some(format!("{:?} ended by itself: {ended}", self.kind)),
        }
    }
}

fn serve(tasks: &mut JoinSet<String>, store: &EventStore, bus: &Bus, participant: Participant) {
    let (relay, bus) = (Relay::new(store, bus), bus.clone());
    tasks.spawn(async move { format!("{:?}", participant.run(&bus, std::future::pending()).await) });
    tasks.spawn(async move { format!("{:?}", relay.run(std::future::pending()).await) });
}

type Said = Result<Answer<u64, String>, HandlerError>;

async fn reserve(State(world): State<World>, saga: SagaContext, command: Reserve) -> Said {
    act(world, saga, command).await
}
async fn release(State(world): State<World>, saga: SagaContext, command: Undo<Reserve>) -> Result<(), HandlerError> {
    undo(world, saga, command).await
}
async fn authorize(State(world): State<World>, saga: SagaContext, command: Authorize) -> Said {
    act(world, saga, command).await
}
async fn void(State(world): State<World>, saga: SagaContext, command: Undo<Authorize>) -> Result<(), HandlerError> {
    undo(world, saga, command).await
}
async fn book(State(world): State<World>, saga: SagaContext, command: Book) -> Said {
    act(world, saga, command).await
}
async fn cancel(State(world): State<World>, saga: SagaContext, command: Undo<Book>) -> Result<(), HandlerError> {
    undo(world, saga, command).await
}
async fn capture(State(world): State<World>, saga: SagaContext, command: Capture) -> Said {
    act(world, saga, command).await
}
async fn notify(State(world): State<World>, saga: SagaContext, command: Notify) -> Said {
    act(world, saga, command).await
}

//! The program: this test's own, started again as a coordinator that knows one build of a definition.

use std::{
    io::Read as _,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use sagamill_bus::Bus;
use sagamill_eventstore::LogTransport;
use sagamill_saga::prelude::*;
use sagamill_testkit::postgres::{Database, shared};
use sqlx::{PgPool, Postgres};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use super::shop::{Charge, Order, Reserve, Running, Ship, World, order, participants, secs};

/// Longer than anything here may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// What the program is told: its build, where the log and the bus are, and its times, in seconds.
const BUILD: &str = "SAGAMILL_PROGRAM_BUILD";
const LOG: &str = "SAGAMILL_PROGRAM_LOG";
const BUS: &str = "SAGAMILL_PROGRAM_BUS";
const LEASE: &str = "SAGAMILL_PROGRAM_LEASE";
const GRACE: &str = "SAGAMILL_PROGRAM_GRACE";

/// A build of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Build {
    /// Three steps, which the participants do.
    Old,
    /// A version later, with a local step more.
    New,
    /// The same by somebody who has not counted the version up.
    Uncounted,
}

impl Build {
    const ALL: [Self; 3] = [Self::Old, Self::New, Self::Uncounted];

    fn name(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
            Self::Uncounted => "uncounted",
        }
    }
    pub(super) fn definition(self) -> Definition<Order> {
        let charge = call(|order: &Order| Charge { cents: order.cents });
        let ship = call(|order: &Order| Ship {
            reservation: order.reservation,
        });
        let reserve = call(|order: &Order| Reserve { sku: order.sku.clone() });
        let reserve = reserve.on_reply(|order: &mut Order, id| order.reservation = id).undo();
        let saga = Saga::define("order").version(if self == Self::New { 2 } else { 1 });
        let saga = saga.step("reserve", reserve);
        match self {
            Self::Old => saga.pivot("charge", charge).step("ship", ship).build(),
            Self::New | Self::Uncounted => {
                let saga = saga.step("note", local(note).no_undo());
                saga.pivot("charge", charge).step("ship", ship).build()
            }
        }
    }
}

/// Without a barrier: whoever runs it a second time leaves a second row.
async fn note(State(pool): State<PgPool>, saga: SagaContext, _: Order) -> Result<Answer<()>, sqlx::Error> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    let note = sqlx::query("INSERT INTO note (saga) VALUES ($1)").bind(&saga.key);
    note.execute(&pool).await?;
    Ok(Done(()))
}

/// The program's main function.
#[test]
#[ignore = "the program of the other tests"]
fn program() {
    let told = |name: &str| std::env::var(name);
    let Ok(build) = told(BUILD) else { return };
    let build = Build::ALL.into_iter().find(|of| of.name() == build).unwrap();
    let time = |name: &str| secs(told(name).unwrap().parse().unwrap());
    thread::spawn(|| {
        // The test holds the other end: however it ends, this goes with it.
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate()).unwrap();
        let store = EventStore::connect(&told(LOG).unwrap()).await.unwrap();
        let store: EventStore<Postgres> = store.on().unwrap();
        let bus = LogTransport::connect(&told(BUS).unwrap()).await.unwrap();
        let bus = Bus::new(bus.lease(time(LEASE)));
        let coordinator = Coordinator::new(&store).bus(bus.clone());
        let coordinator = coordinator.with_state(store.pool().clone());
        let coordinator = coordinator.lease(time(LEASE)).park_unknown_after(time(GRACE));
        coordinator.register(build.definition()).unwrap();
        let stop = async move {
            terminated.recv().await;
        };
        coordinator.run(stop).await.unwrap();
        bus.close().await.unwrap();
        store.close().await;
    });
}

/// A process that runs it, which ends with the test.
pub(super) struct Program(Child);

impl Program {
    /// Tells it to stop, as an operator would, and waits until it has.
    pub(super) async fn end(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_raw(self.0.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = async {
            loop {
                if let Some(ended) = self.0.try_wait().unwrap() {
                    return ended;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, ended)
            .await
            .expect("the program ends when it is told to")
    }
    pub(super) fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended is no more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The databases, and what happens outside of the programs: participants, and whoever starts sagas.
pub(super) struct Place {
    pub(super) store: EventStore<Postgres>,
    bus: Bus,
    theirs: sagamill_eventstore::Memory,
    pub(super) world: World,
    lease: Duration,
    grace: Duration,
    pub(super) log: Database,
    pub(super) channel: Database,
}

impl Place {
    /// None where there is no server, which is said.
    pub(super) async fn make(lease: Duration, grace: Duration) -> Option<Self> {
        let server = shared().await?;
        let (log, channel) = (
            server.database("sagas").await.unwrap(),
            server.database("bus").await.unwrap(),
        );
        let store: EventStore<Postgres> = EventStore::connect(log.url()).await.unwrap().on().unwrap();
        let bus = Bus::new(LogTransport::connect(channel.url()).await.unwrap());
        let table = "CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, saga text NOT NULL)";
        sqlx::query(table).execute(store.pool()).await.unwrap();
        Some(Self {
            store,
            bus,
            theirs: sagamill_eventstore::Memory::new(),
            world: World::default(),
            lease,
            grace,
            log,
            channel,
        })
    }
    pub(super) fn start(&self, build: Build) -> Program {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "program::program", "--ignored", "--nocapture"]);
        program
            .env(BUILD, build.name())
            .env(LOG, self.log.url())
            .env(BUS, self.channel.url());
        program.env(LEASE, self.lease.as_secs().to_string());
        program.env(GRACE, self.grace.as_secs().to_string());
        Program(program.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }
    /// Who starts sagas of a build, and runs none.
    pub(super) fn starter(&self, build: Build) -> Sagas<Order, Postgres> {
        Coordinator::new(&self.store).register(build.definition()).unwrap()
    }
    pub(super) fn serve(&self) -> Running {
        Running::participant(participants(&self.theirs.open(), &self.world), &self.bus)
    }
    /// What was done for a saga outside of the programs, and how often inside.
    pub(super) async fn did(&self, key: u32) -> (Vec<&'static str>, i64) {
        let notes = sqlx::query_scalar("SELECT count(*) FROM note WHERE saga = $1").bind(key.to_string());
        let notes = notes.fetch_one(self.store.pool()).await.unwrap();
        (self.world.of(&key.to_string()), notes)
    }
    pub(super) async fn end(self) {
        self.bus.close().await.unwrap();
        self.store.close().await;
    }
}

/// Every seventh is refused in the end, and undone.
pub(super) fn wanted(key: u32) -> Order {
    order("tea", if key.is_multiple_of(7) { 5_000 } else { 450 })
}
/// What must have been done for it.
pub(super) fn expected(key: u32, build: Build) -> (Vec<&'static str>, i64) {
    let did = if key.is_multiple_of(7) {
        vec!["reserve", "release"]
    } else {
        vec!["reserve", "charge", "ship"]
    };
    (did, i64::from(build != Build::Old))
}

//! Sagas that were under way when their process was killed, against the same from the beginning in a process that lives.
//!
//! A hundred sagas stand in their second step, whose effect is committed and not yet known, when `SIGKILL` comes. Whoever goes
//! on runs that step again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use sagamill::prelude::*;
use serde::{Deserialize, Serialize};
use sqlx::Postgres;
use tokio::sync::{Notify, oneshot};

use super::worker::{Task, Worker, answer};
use crate::{
    case::Setting,
    effect::{Effects, Engine},
    load::per_second,
    measure::{Pair, Sample, side_by_side},
};

const SAGAS: usize = 100;
const STEPS: i64 = 3;
const CONNECTIONS: u32 = 10;
/// How long a process may be silent before another one takes over: short, for what is measured comes after it.
const LEASE: Duration = Duration::from_secs(1);

/// The rate is that of a process that starts after the killed one's leases have ended, its start included; `takeover_ms` is
/// the time from the kill until all have ended by a process that stood by, the wait for the leases included.
pub(crate) async fn run(setting: &Setting) -> anyhow::Result<Pair> {
    let pair = side_by_side(
        setting,
        async || restarted(setting).await,
        async || unhurt(setting).await,
    )
    .await?;
    if setting.side.is_some() {
        return Ok(pair);
    }
    let takeover = taken_over(setting).await?;
    let ours = pair
        .ours
        .with("takeover_ms", takeover.as_secs_f64() * 1e3)
        .with("lease_ms", LEASE.as_secs_f64() * 1e3);
    Ok(Pair { ours, ..pair })
}

async fn restarted(setting: &Setting) -> anyhow::Result<Sample> {
    let home = Postgres::home(setting).await?;
    Postgres::open(&home, 1).await?.close().await;
    held(home.url()).await?.kill().await?;
    home.left().await?;
    tokio::time::sleep(LEASE).await;
    let began = Instant::now();
    let crew = Crew::start(home.url(), Arc::new(Gate::open())).await?;
    crew.ends().await?;
    let sample = sample(began.elapsed());
    crew.stop().await?;
    Postgres::leave(home).await?;
    Ok(sample)
}

async fn unhurt(setting: &Setting) -> anyhow::Result<Sample> {
    let home = Postgres::home(setting).await?;
    Postgres::open(&home, 1).await?.close().await;
    let began = Instant::now();
    let crew = Crew::start(home.url(), Arc::new(Gate::open())).await?;
    crew.begin(SAGAS).await?;
    crew.ends().await?;
    let sample = sample(began.elapsed());
    crew.stop().await?;
    Postgres::leave(home).await?;
    Ok(sample)
}

async fn taken_over(setting: &Setting) -> anyhow::Result<Duration> {
    let home = Postgres::home(setting).await?;
    Postgres::open(&home, 1).await?.close().await;
    let worker = held(home.url()).await?;
    let crew = Crew::start(home.url(), Arc::new(Gate::open())).await?;
    let killed = Instant::now();
    worker.kill().await?;
    crew.ends().await?;
    let time = killed.elapsed();
    crew.stop().await?;
    Postgres::leave(home).await?;
    Ok(time)
}

fn sample(time: Duration) -> Sample {
    let sample = Sample::new(per_second(SAGAS, time), SAGAS, Vec::new());
    sample.with("all_ended_ms", time.as_secs_f64() * 1e3)
}

/// A process in which all sagas stand in their second step.
async fn held(url: &str) -> anyhow::Result<Worker> {
    let task = Task::Hold {
        sagas: SAGAS,
        lease_ms: u64::try_from(LEASE.as_millis())?,
    };
    let mut worker = Worker::start(task, url).await?;
    ensure!(worker.hear().await? == "held", "a worker said something else");
    Ok(worker)
}

/// What a worker does: it brings sagas to where they are held, and waits to be killed.
pub(super) async fn hold(url: &str, sagas: usize, lease_ms: u64) -> anyhow::Result<()> {
    ensure!(
        Duration::from_millis(lease_ms) == LEASE,
        "both processes have one lease"
    );
    let gate = Arc::new(Gate::closed_after(sagas));
    let crew = Crew::start(url, gate.clone()).await?;
    answer("ready")?;
    crew.begin(sagas).await?;
    gate.full.notified().await;
    answer("held")?;
    std::future::pending().await
}

/// What a saga works on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Work {
    number: usize,
}

/// Where the second step ends, or does not.
#[derive(Debug)]
struct Gate {
    is_open: bool,
    missing: AtomicUsize,
    full: Notify,
}

impl Gate {
    fn open() -> Self {
        Self {
            is_open: true,
            ..Self::closed_after(0)
        }
    }
    fn closed_after(sagas: usize) -> Self {
        Self {
            is_open: false,
            missing: AtomicUsize::new(sagas),
            full: Notify::new(),
        }
    }
    async fn pass(&self) {
        if self.is_open {
            return;
        }
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.full.notify_one();
        }
        std::future::pending().await
    }
}

/// A coordinator that runs.
struct Crew {
    effects: Effects<Postgres>,
    sagas: Sagas<Work, Postgres>,
    stop: oneshot::Sender<()>,
    running: tokio::task::JoinHandle<sagamill::Result<()>>,
}

impl Crew {
    async fn start(url: &str, gate: Arc<Gate>) -> anyhow::Result<Self> {
        let effects = Effects::attach(url, CONNECTIONS).await?;
        let coordinator = Coordinator::new(effects.store())
            .lease(LEASE)
            .with_state(effects.clone())
            .with_state(gate);
        let sagas = coordinator.register(definition())?;
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(coordinator.run(async move {
            let _ = stopped.await;
        }));
        Ok(Self {
            effects,
            sagas,
            stop,
            running,
        })
    }
    async fn begin(&self, sagas: usize) -> anyhow::Result<()> {
        let starts = (0..sagas).map(|number| self.sagas.start(number, Work { number }));
        futures_util::future::try_join_all(starts).await?;
        Ok(())
    }
    /// All have ended, with each of their effects once.
    async fn ends(&self) -> anyhow::Result<()> {
        let outcomes = (0..SAGAS).map(async |number| {
            let saga = self.sagas.get(number).await?;
            match saga.outcome().await? {
                Outcome::Completed(_) => Ok(()),
                other => bail!("a saga did not complete: {other:?}"),
            }
        });
        futures_util::future::try_join_all(outcomes).await?;
        let effects = Postgres::count(&self.effects).await?;
        let demanded = i64::try_from(SAGAS)? * STEPS;
        ensure!(
            effects == demanded,
            "{effects} effects of {SAGAS} sagas, which demand {demanded}"
        );
        Ok(())
    }
    async fn stop(self) -> anyhow::Result<()> {
        drop(self.stop);
        self.running.await??;
        self.effects.close().await;
        Ok(())
    }
}

fn definition() -> Definition<Work> {
    Saga::define("bench-recovery")
        .step("reserve", local(effect).undo(undo))
        .pivot("charge", local(effect_and_gate))
        .step("ship", local(effect))
        .build()
}

async fn effect(
    State(effects): State<Effects<Postgres>>,
    saga: SagaContext,
    _: Work,
) -> anyhow::Result<Answer<(), sagamill::saga::Never>> {
    Postgres::alone(effects, saga.effect).await?;
    Ok(Done(()))
}

async fn effect_and_gate(
    State(effects): State<Effects<Postgres>>,
    State(gate): State<Arc<Gate>>,
    saga: SagaContext,
    _: Work,
) -> anyhow::Result<Answer<(), sagamill::saga::Never>> {
    Postgres::alone(effects, saga.effect).await?;
    gate.pass().await;
    Ok(Done(()))
}

async fn undo(_: ()) {}

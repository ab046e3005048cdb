//! The host: starts sagas, takes replies, decides, appends.

mod cache;
mod host;
mod janitor;
mod keeper;
mod members;
mod queue;
mod reply;
mod sagas;
mod waiters;
mod watch;
mod work;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future;
use sagamill_bus::{Bus, Subscribe};
use sagamill_eventstore::{AnyDatabase, Database, EventStore, Relay};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use sagas::{Instance, Outcome, Sagas};

use crate::barrier::{self, Gate, KillPoints};
use crate::core::{Plan, StepKind};
use crate::local::States;
use crate::{Definition, Error, Result, serve, step::Data};
use host::Host;
use members::Membership;
use work::{Shape, Tools, Worker};

const POINTS: KillPoints = KillPoints {
    effect: ["local.effect.before", "local.effect.after"],
    undo: ["local.undo.before", "local.undo.after"],
    commit: ["local.commit.before", "local.commit.after"],
};
/// Most replies to one definition that are handled at the same time.
const REPLIES_MAX: usize = 256;
/// How long a process may be silent, where it is not said.
const LEASE: Duration = Duration::from_secs(10);
/// How long no live process may know a saga's definition, where it is not said.
const GRACE: Duration = Duration::from_mins(10);
/// How long a stop waits for what is being done.
const DRAIN: Duration = Duration::from_secs(30);

/// Runs sagas over one store. Cheap to clone; any number of them may share the store.
pub struct Coordinator<D = AnyDatabase> {
    store: EventStore<D>,
    host: Arc<Host>,
    bus: Option<Bus>,
    states: States,
    lease: Duration,
    grace: Duration,
}

impl<D> Clone for Coordinator<D> {
    fn clone(&self) -> Self {
        let Self {
            store,
            host,
            bus,
            states,
            lease,
            grace,
        } = self;
        Self {
            store: store.clone(),
            host: host.clone(),
            bus: bus.clone(),
            states: states.clone(),
            lease: *lease,
            grace: *grace,
        }
    }
}
impl<D> fmt::Debug for Coordinator<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator")
            .field("store", &self.store)
            .field("bus", &self.bus)
            .finish_non_exhaustive()
    }
}

impl Coordinator {
    /// On the store this URL names: `sqlite:shop.db`, `postgres://host/shop`, `memory:`.
    ///
    /// # Errors
    /// What the store says.
    pub async fn connect(store: &str) -> Result<Self> {
        Ok(Self::new(&EventStore::connect(store).await?))
    }
}
impl<D: Database> Coordinator<D> {
    /// On a pool that is there already, so that sagas can start in a transaction of one's own.
    ///
    /// # Errors
    /// What the database says.
    pub async fn open(pool: sqlx::Pool<D::Sqlx>) -> Result<Self> {
        Ok(Self::new(&EventStore::open(pool).await?))
    }
}
impl<D: 'static> Coordinator<D> {
    /// On a store that is open already.
    #[must_use]
    pub fn new(store: &EventStore<D>) -> Self {
        let (host, states) = (Host::new(store.any()), States::default());
        Self {
            store: store.clone(),
            host,
            bus: None,
            states,
            lease: LEASE,
            grace: GRACE,
        }
    }
    /// The way to participants. Without it, commands stay in this process; with it, local steps are shared by all replicas.
    #[must_use]
    pub fn bus(self, bus: Bus) -> Self {
        Self { bus: Some(bus), ..self }
    }
    /// How long a process may be silent before another one takes over its sagas' local steps and timers; 10 s by default.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }
    /// How long no live process may know the definition by which a saga was started before the saga is parked; 10 minutes by
    /// default. It goes on by itself when a process runs that has registered it.
    #[must_use]
    pub fn park_unknown_after(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }
    /// State for local steps, found by its type.
    #[must_use]
    pub fn with_state<T: Clone + Send + Sync + 'static>(self, state: T) -> Self {
        Self {
            states: self.states.with(state),
            ..self
        }
    }
    /// Registers a definition, old versions too; all before `run`.
    ///
    /// # Errors
    /// [`Error::Definition`] names every problem of the definition.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a definition is given away, as it is to a router"
    )]
    pub fn register<S: Data>(&self, definition: Definition<S>) -> Result<Sagas<S, D>> {
        definition.check()?;
        let plan = definition.plan();
        let mut problems = Vec::new();
        if !self.host.register(plan) {
            problems.push("another definition of this name and version is registered already".to_owned());
        }
        if !self.store_joins() {
            problems.extend(transactional(plan).map(|step| {
                format!("the local step `{step}` takes `Tx`, which needs a store in a database, not in memory")
            }));
        }
        if !problems.is_empty() {
            return Err(Error::Definition {
                saga: plan.name.to_string(),
                problems,
            });
        }
        Ok(Sagas::new(self.host.clone(), self.store.clone(), plan.clone()))
    }
    fn store_joins(&self) -> bool {
        barrier::of(&self.store).transactional()
    }

    /// Runs until `shutdown` is ready, then stops between two steps: takes no more, lets what is being done end, and gives
    /// its leases back.
    ///
    /// # Errors
    /// [`Error::NoBus`] where a step asks a participant and there is no bus; what the bus and the log say of subscribing;
    /// a log that diverged.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let Self {
            store,
            host,
            bus,
            states,
            lease,
            grace,
        } = self;
        let plans = host.plans();
        if bus.is_none() {
            without_bus(&plans)?;
        }
        let gate = Gate::new(barrier::of(&store), store.any(), &POINTS);
        if plans.iter().any(|plan| transactional(plan).next().is_some()) {
            gate.migrate().await?;
        }
        let _run = Run::begin(&host);
        let membership = Membership::begin(&host.store, &host.members, &plans, lease, grace).await?;
        let tools = Tools::new(gate, states);
        let mut crew = Vec::new();
        for of in plans.iter().flat_map(|plan| Shape::all(plan)) {
            let feed = keeper::open(&host, &of, lease).await?;
            crew.push((Worker::new(of, feed.progress(), tools.clone()), feed));
        }
        let mut started = janitor::open(&host, lease).await?;
        host.set_workers(crew.iter().map(|(worker, _)| worker.clone()).collect());
        let (stop, settled) = (CancellationToken::new(), CancellationToken::new());
        let (mut takers, mut beside) = (JoinSet::new(), JoinSet::new());
        if let Some(bus) = &bus {
            for plan in plans {
                takers.spawn(serve_replies(&host, bus, plan, stop.clone()).await?);
            }
            // It starts when all groups of this coordinator are there.
            let (relay, stop) = (Relay::new(&store, bus), settled.clone());
            beside.spawn(async move { relay.run(stop.cancelled_owned()).await.map_err(Error::from) });
        }
        let ended = {
            let keep = crew
                .iter_mut()
                .map(|(worker, feed)| keeper::keep(&host, worker, feed, &stop));
            let keep = future::try_join3(
                future::try_join_all(keep),
                membership.keep(&host.members, &stop),
                janitor::keep(&host, &mut started, lease, grace, &stop),
            );
            tokio::select! {
                biased;
                ended = serve::until(shutdown, &mut takers, &mut beside) => ended,
                kept = keep => kept.map(drop),
            }
        };
        stop.cancel();
        // No step is begun any more; those that run end.
        host.set_workers(Arc::default());
        let ended = ended.and(serve::join(&mut takers).await);
        host.queue.drain(DRAIN).await;
        settled.cancel();
        let ended = ended.and(serve::join(&mut beside).await);
        let mut ended = ended;
        for feed in crew.into_iter().map(|(_, feed)| feed).chain([started]) {
            ended = ended.and(feed.close().await.map_err(Error::from));
        }
        // What only this process knew is missed from now on.
        ended.and(membership.end().await)
    }
}

/// A run. Dropped in its midst, it takes its tasks with it.
struct Run(Arc<Host>);

impl Run {
    fn begin(host: &Arc<Host>) -> Self {
        host.queue.open();
        // The log may have lost its tail since, and with it what is remembered of sagas.
        host.cache.clear();
        Self(host.clone())
    }
}
impl Drop for Run {
    fn drop(&mut self) {
        self.0.set_workers(Arc::default());
        self.0.queue.abort();
    }
}

async fn serve_replies(
    host: &Arc<Host>,
    bus: &Bus,
    plan: Arc<Plan>,
    stop: CancellationToken,
) -> Result<impl Future<Output = Result<()>> + Send + 'static + use<>> {
    let mut request = Subscribe::new(
        plan.reply_topic(),
        format!("coordinator-{}.v{}", plan.name, plan.version),
    );
    request.max_in_flight = REPLIES_MAX;
    let deliveries = bus.subscribe(request).await?;
    let (host, bus) = (host.clone(), bus.clone());
    Ok(serve::serve(deliveries, stop, move |delivery| {
        reply::take(host.clone(), plan.clone(), bus.clone(), delivery)
    }))
}

/// The local steps whose effect, or undo, is in a transaction.
fn transactional(plan: &Plan) -> impl Iterator<Item = &str> {
    let is_transactional = |step: &&crate::core::StepPlan| {
        let action = matches!(&step.kind, StepKind::Local { run, .. } if run.is_transactional());
        action || matches!(&step.undo, crate::core::UndoPlan::Local(run) if run.is_transactional())
    };
    plan.steps.iter().filter(is_transactional).map(|step| &*step.name)
}

fn without_bus(plans: &[Arc<Plan>]) -> Result<()> {
    for plan in plans {
        if let Some(step) = plan.steps.iter().find(|step| !step.is_local()) {
            return Err(Error::NoBus {
                saga: plan.name.to_string(),
                step: step.name.to_string(),
            });
        }
    }
    Ok(())
}

//! Loads, decides, appends: what each coordinator does with each input.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sagamill_bus::MessageId;
use sagamill_eventstore::{Append, Batch, Error as LogError, EventStore, Expected, Recorded, Version};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::cache::{Cache, Live};
use super::members::{Members, Needs};
use super::queue::Queue;
use super::waiters::Waiters;
use super::work::Worker;
use crate::core::{
    Decision, Input, InputKind, LoadError, NoOp, ParkReason, Plan, ReactError, SagaEvent, State, Status, load,
    load_unverified, react,
};
use crate::{Error, Result, chain, metric_definitions as metric, wire};

/// How often an append whose outcome is not known is made again before its caller is told.
const UNKNOWN_MAX: u32 = 5;
/// So many conflicts in a row are said, and each time that they have doubled.
const SAY_FROM: u32 = 64;
/// The longest pause after a conflict.
const JITTER_MAX_MS: u64 = 64;

/// What all parts of a coordinator share.
pub(crate) struct Host {
    pub(crate) store: EventStore,
    /// This process and its incarnation, as events name it.
    pub(crate) process: String,
    plans: Mutex<Plans>,
    pub(crate) cache: Cache,
    pub(crate) queue: Queue,
    pub(crate) waiters: Waiters,
    pub(crate) members: Members,
    /// One for each shape whose sagas go on here, while the coordinator runs in this process.
    workers: Mutex<Arc<[Arc<Worker>]>>,
}

/// Definitions by name and version.
type Plans = BTreeMap<(Arc<str>, u32), Arc<Plan>>;

/// Where a state comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Cache,
    Log,
}

/// What became of inputs.
pub(crate) struct Outcome {
    pub(crate) live: Arc<Live>,
    /// Why an input decided nothing, by its place.
    pub(crate) noops: Vec<(usize, NoOp)>,
    pub(crate) appended: bool,
}

impl Host {
    pub(crate) fn new(store: EventStore) -> Arc<Self> {
        let incarnation = store.new_id().simple().to_string();
        Arc::new(Self {
            store,
            process: format!("coordinator/{}", &incarnation[20..]),
            plans: Mutex::default(),
            cache: Cache::default(),
            queue: Queue::default(),
            waiters: Waiters::default(),
            members: Members::default(),
            workers: Mutex::default(),
        })
    }

    /// Adds a definition. False: another one has its name and version.
    pub(crate) fn register(&self, plan: &Arc<Plan>) -> bool {
        let mut plans = lock(&self.plans);
        let known = plans
            .entry((plan.name.clone(), plan.version))
            .or_insert_with(|| plan.clone());
        known.digest == plan.digest
    }
    pub(crate) fn plans(&self) -> Vec<Arc<Plan>> {
        lock(&self.plans).values().cloned().collect()
    }
    pub(crate) fn plan(&self, definition: &str, version: u32) -> Option<Arc<Plan>> {
        lock(&self.plans).get(&(definition.into(), version)).cloned()
    }
    fn workers(&self) -> Arc<[Arc<Worker>]> {
        lock(&self.workers).clone()
    }
    pub(crate) fn set_workers(&self, workers: Arc<[Arc<Worker>]>) {
        *lock(&self.workers) = workers;
    }
    /// Begins what a saga wants of this process, and remembers when to look again.
    pub(crate) fn look(self: &Arc<Self>, stream: &Arc<str>, live: &Arc<Live>) {
        for worker in &*self.workers() {
            worker.look(self, stream, live);
        }
    }
    /// A saga could not be looked at.
    pub(crate) fn give_up(&self, stream: &Arc<str>, error: Option<&Error>) {
        for worker in &*self.workers() {
            worker.give_up(self, stream, error);
        }
    }

    /// The saga as this process knows it, where that is at least of this version; else as the log has it.
    pub(crate) async fn find(&self, stream: &Arc<str>, at_least: i64) -> Result<(Arc<Live>, Origin)> {
        match self.cache.get(stream).filter(|live| live.state.version >= at_least) {
            Some(live) => Ok((live, Origin::Cache)),
            None => Ok((self.reload(stream).await?, Origin::Log)),
        }
    }
    /// The saga as the log has it.
    pub(crate) async fn reload(&self, stream: &Arc<str>) -> Result<Arc<Live>> {
        let (plan, key, events) = self.read(stream).await?;
        let state = load(&plan, &key, &events).map_err(|source| unloadable(stream, source))?;
        let live = Arc::new(Live { plan, state });
        self.cache.put(stream, live.clone());
        Ok(live)
    }
    async fn read(&self, stream: &str) -> Result<(Arc<Plan>, Arc<str>, Vec<SagaEvent>)> {
        let mut read = self.store.read(stream);
        let (mut of, mut events) = (None, Vec::new());
        while let Some(recorded) = read.next().await {
            let recorded: Recorded = recorded?;
            let entry = SagaEvent::decode(&recorded).map_err(|source| unloadable(stream, source.into()))?;
            of.get_or_insert(entry.identity);
            events.push(entry.event);
        }
        let of = of.ok_or_else(|| Error::NotFound { key: stream.to_owned() })?;
        let plan = self
            .plan(&of.definition, of.version)
            .ok_or_else(|| Error::UnknownDefinition {
                definition: of.definition.to_string(),
                version: of.version,
            })?;
        Ok((plan, of.key, events))
    }

    /// Decides what follows from inputs and appends it; returns when that is durable, or when it is certain that nothing
    /// follows. `inputs` is asked again for each state that is tried.
    ///
    /// Conflicts are no attempts: the saga is loaded again and decided again, however often somebody else is faster.
    pub(crate) async fn decide(
        self: &Arc<Self>,
        stream: &Arc<str>,
        mut at_least: i64,
        inputs: impl Fn(&Live) -> Vec<Input>,
    ) -> Result<Outcome> {
        for conflicts in 1.. {
            let (live, origin) = self.find(stream, at_least).await?;
            let decision =
                react(&live.plan, &live.state, &inputs(&live)).map_err(|source| undecidable(stream, source))?;
            if decision.events.is_empty() {
                if needs_reload(origin) {
                    at_least = i64::MAX;
                    continue;
                }
                return Ok(Outcome {
                    live,
                    noops: decision.noops,
                    appended: false,
                });
            }
            match self.append(stream, &live, decision).await {
                Err(Error::Store(LogError::Conflict { .. } | LogError::IdReused(_))) => {
                    metric::conflict(&live.plan.name);
                    if conflicts >= SAY_FROM && conflicts.is_power_of_two() {
                        tracing::warn!(
                            stream = &**stream,
                            conflicts,
                            "what is decided for a saga is refused again and again"
                        );
                    }
                    self.cache.forget(stream);
                    self.pause(stream, conflicts).await;
                }
                appended => return appended,
            }
        }
        unreachable!("invariant: the loop above ends by returning")
    }

    /// Appends what was decided, and hands on what follows from it.
    pub(crate) async fn append(
        self: &Arc<Self>,
        stream: &Arc<str>,
        before: &Live,
        decision: Decision,
    ) -> Result<Outcome> {
        let expected = match before.state.version {
            0 => Expected::NoStream,
            version => Expected::Exact(Version(version)),
        };
        let events = decision.encode(&self.process);
        let append = Append {
            stream: (&**stream).into(),
            expected,
            events,
        };
        fail::fail_point!("saga.append.before");
        self.commit(append).await?;
        fail::fail_point!("saga.append.after");
        Ok(self.appended(stream, before.plan.clone(), decision))
    }
    /// The decision is durable.
    pub(crate) fn appended(self: &Arc<Self>, stream: &Arc<str>, plan: Arc<Plan>, decision: Decision) -> Outcome {
        for decided in &decision.events {
            metric::decided(&plan, &decision.next, &decided.event);
        }
        let live = Arc::new(Live {
            plan,
            state: decision.next,
        });
        self.cache.put(stream, live.clone());
        if live.state.is_ended() || matches!(live.state.status, Status::Parked(_)) {
            self.waiters.wake(stream);
        }
        self.look(stream, &live);
        Outcome {
            live,
            noops: decision.noops,
            appended: true,
        }
    }
    async fn commit(&self, append: Append) -> Result<()> {
        for tries in 1.. {
            match self.store.commit(Batch::from(append.clone())).await {
                // The same ids again: it is stored once, whichever of the two commits went through.
                Err(LogError::Unknown(error)) if tries < UNKNOWN_MAX => {
                    tracing::warn!(stream = %append.stream, %error, "it is not known whether an append went through; again");
                    self.pause(append.stream.as_str(), tries).await;
                }
                committed => return committed.map(drop).map_err(Error::from),
            }
        }
        unreachable!("invariant: the loop above ends by returning")
    }
    /// A short pause, none after the first conflict, another one for each saga and process.
    async fn pause(&self, stream: &str, conflicts: u32) {
        if conflicts > 1 {
            let most = (1_u64 << conflicts.min(6)).min(JITTER_MAX_MS);
            let seed = xxh3_64_with_seed(self.process.as_bytes(), u64::from(conflicts));
            let ms = xxh3_64_with_seed(stream.as_bytes(), seed) % most;
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    /// Parks a saga that cannot be loaded or decided, so that it is seen and the others go on. Where even that fails it is
    /// logged and counted, and left as it is.
    pub(crate) async fn quarantine(self: &Arc<Self>, stream: &Arc<str>, error: &Error) {
        let reason = match error {
            Error::Unloadable {
                source: LoadError::CodeChanged { .. },
                ..
            } => ParkReason::CodeChanged,
            Error::Unloadable {
                source: LoadError::Unreadable { .. },
                ..
            }
            | Error::Undecidable { .. } => ParkReason::Unreadable,
            // A newer library's event, or another shape: another process may know it. Damaged: nobody can append to it.
            _ => match Needs::of(error) {
                Some(needs) if !self.members.have_missed(&needs, self.store.now()) => return,
                _ => return metric::broken(stream, &chain(error)),
            },
        };
        if let Err(failed) = self.park(stream, reason, chain(error)).await {
            tracing::error!(stream = &**stream, %failed, "a saga that cannot be loaded could not be parked either");
            metric::broken(stream, &chain(error));
        }
    }
    async fn park(self: &Arc<Self>, stream: &Arc<str>, reason: ParkReason, text: String) -> Result<()> {
        let (plan, key, events) = self.read(stream).await?;
        let state = load_unverified(&plan, &key, &events).map_err(|source| unloadable(stream, source))?;
        let cause = MessageId::derived(
            state.identity.instance,
            &format!("{stream}/park"),
            ordinal(state.version),
        )
        .0;
        let input = Input {
            cause,
            now: self.store.now(),
            kind: InputKind::Park { reason, text },
        };
        let decision = react(&plan, &state, &[input]).map_err(|source| undecidable(stream, source))?;
        if decision.events.is_empty() {
            return Ok(());
        }
        let before = Live { plan, state };
        self.append(stream, &before, decision).await?;
        // It stays unreadable by the usual way: what was made here is not remembered.
        self.cache.forget(stream);
        Ok(())
    }
}

/// An expected version guards what is appended. That nothing is to be appended is guarded by nothing: a remembered saga may
/// be behind the log, and what looks like an answer to no question may answer one that another process has asked. So it is
/// certain only once the log itself has been read.
fn needs_reload(origin: Origin) -> bool {
    origin == Origin::Cache
}

/// A version as the ordinal of a derived id.
pub(crate) fn ordinal(version: i64) -> u32 {
    u32::try_from(version & i64::from(u32::MAX)).unwrap_or_default()
}

/// The stream of a saga.
pub(crate) fn stream_of(definition: &str, key: &str) -> Arc<str> {
    wire::stream(definition, key).into()
}

/// A saga that has no event yet, as a start decides on it.
pub(crate) fn unborn(plan: &Arc<Plan>, key: &str) -> Live {
    Live {
        plan: plan.clone(),
        state: State::new(plan, key),
    }
}

pub(crate) fn unloadable(stream: &str, source: LoadError) -> Error {
    Error::Unloadable {
        stream: stream.to_owned(),
        source,
    }
}
pub(crate) fn undecidable(stream: &str, source: ReactError) -> Error {
    Error::Undecidable {
        stream: stream.to_owned(),
        source,
    }
}
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

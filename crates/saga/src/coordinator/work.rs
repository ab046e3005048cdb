//! What the owner of a saga's shard does for it: runs its local steps, and looks at it when it is due.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use sagamill_bus::{BoxError, ErrorClass, MessageId};
use sagamill_eventstore::{Position, Progress, Recorded};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tracing::Instrument as _;
use uuid::Uuid;

use super::cache::Live;
use super::host::Host;
use super::queue::{Item, is_broken, local_cause};
use super::watch::{FAR, Wants, Watches, later};
use crate::barrier::{Answered, Ask, Called, Effect, Gate, Given, Slot, Verdict};
use crate::core::{Input, InputKind, LoadError, LocalWork, Phase, Plan, Reported, StepKind, UndoPlan, digest_of};
use crate::local::{LocalEffect, States};
use crate::step::LocalRun;
use crate::{Error, chain, metric_definitions as metric, wire};

/// Most local steps that run at the same time.
const LOCAL_MAX: usize = 256;
/// How long a saga waits whose shard's lease is in doubt.
const DOUBT: Duration = Duration::from_millis(100);

/// The part of a coordinator that does what its shards of one shape's sagas ask for.
pub(crate) struct Worker {
    of: Shape,
    /// As events say it.
    version: String,
    pub(super) progress: Progress,
    watches: Mutex<Watches>,
    /// Something is due earlier than was known.
    pub(super) sooner: Notify,
    running: Running,
    tools: Tools,
}

/// A definition in one shape: that by which its sagas were started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(super) definition: Arc<str>,
    pub(super) version: u32,
    pub(super) digest: u64,
}

impl Shape {
    /// Each shape whose sagas go on by a definition.
    pub(crate) fn all(plan: &Plan) -> impl Iterator<Item = Self> {
        plan.digests().map(|digest| Self {
            definition: plan.name.clone(),
            version: plan.version,
            digest,
        })
    }
}

/// What all workers of a coordinator share.
#[derive(Clone)]
pub(crate) struct Tools {
    permits: Arc<Semaphore>,
    gate: Arc<Gate>,
    states: States,
}

impl Tools {
    pub(crate) fn new(gate: Arc<Gate>, states: States) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(LOCAL_MAX)),
            gate,
            states,
        }
    }
}

/// The local steps that run now, each with its attempt.
type Running = Arc<Mutex<BTreeSet<(Uuid, Phase, u32)>>>;

/// A local step that runs, or whose outcome is not decided yet.
pub(crate) struct Begun {
    running: Running,
    of: (Uuid, Phase, u32),
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.of);
    }
}

impl Worker {
    pub(crate) fn new(of: Shape, progress: Progress, tools: Tools) -> Arc<Self> {
        Arc::new(Self {
            version: of.version.to_string(),
            of,
            progress,
            watches: Mutex::default(),
            sooner: Notify::new(),
            running: Running::default(),
            tools,
        })
    }
    /// Whether an event is of one of its sagas, as far as the event says; what says nothing has to be looked at.
    pub(super) fn takes(&self, event: &Recorded) -> bool {
        let headers = &event.headers;
        let is = |header: &str, value: &str| headers.get(header).is_none_or(|found| found == value);
        is(wire::DEFINITION, &self.of.definition)
            && is(wire::DEFINITION_VERSION, &self.version)
            && digest_of(headers).is_none_or(|digest| digest == self.of.digest)
    }
    fn is_of(&self, live: &Live) -> bool {
        let state = &live.state;
        state.digest == self.of.digest && live.plan.name == self.of.definition && live.plan.version == self.of.version
    }
    pub(super) fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event of one of this process's shards.
    pub(super) fn noted(self: &Arc<Self>, host: &Arc<Host>, stream: &Arc<str>, shard: u16, at: Position, version: i64) {
        let known = host.cache.get(stream);
        match known {
            // A later event of this saga follows, and stands for this one.
            Some(live) if live.state.version > version => self.progress.done(shard, at),
            Some(live) if live.state.version == version => {
                if live.state.is_ended() && !self.watches().is_watched(stream) {
                    return self.progress.done(shard, at);
                }
                self.watches().hold(&self.progress, stream, shard, at, version);
                self.look(host, stream, &live);
            }
            _ => {
                self.watches().hold(&self.progress, stream, shard, at, version);
                host.queue.post(host, stream, Item::Wake { at_least: version });
            }
        }
    }

    /// Begins what a saga wants of this process, if this process owns its shard, and remembers when to look again.
    pub(crate) fn look(self: &Arc<Self>, host: &Arc<Host>, stream: &Arc<str>, live: &Arc<Live>) {
        let shard = self.progress.shard_of(stream);
        if !self.progress.holds(shard) {
            return self.look_again(host, stream, shard);
        }
        if !self.is_of(live) {
            // Its event did not say so: another worker has it.
            return self.let_go(stream, shard);
        }
        let now = host.store.now();
        let (mut soonest, mut runs) = (None, false);
        for work in live.state.local_work(&live.plan) {
            match work.not_before.filter(|time| *time > now) {
                Some(time) => soonest = Some(soonest.map_or(time, |known: jiff::Timestamp| known.min(time))),
                None => {
                    runs = true;
                    self.begin(host, stream, shard, live, work);
                }
            }
        }
        for timer in live.state.timers(&live.plan) {
            // What is due now has just been decided on; where it is still there, it is not asked for in a tight loop.
            let due = if timer.due > now {
                timer.due
            } else {
                later(now, Duration::from_secs(1))
            };
            soonest = Some(soonest.map_or(due, |known| known.min(due)));
        }
        if live.state.waits_for_its_definition() {
            // It is known here: told once more where that could not be appended just now.
            let again = later(now, Duration::from_secs(1));
            soonest = Some(soonest.map_or(again, |known| known.min(again)));
        }
        let far = |at| (!runs && at > later(now, FAR)).then_some(now);
        let wants = match soonest {
            Some(at) => Wants::Look { at, far_since: far(at) },
            None if runs => Wants::Outcome,
            None => Wants::Nothing,
        };
        let mut watches = self.watches();
        let before = watches.next();
        watches.set(&self.progress, stream, shard, Some(live.state.version), wants);
        if watches
            .next()
            .is_some_and(|next| before.is_none_or(|before| next < before))
        {
            self.sooner.notify_one();
        }
    }
    /// A saga could not be looked at. One that nobody can go on with is let go; one that another process may know is looked
    /// at again later.
    pub(crate) fn give_up(&self, host: &Host, stream: &Arc<str>, error: Option<&Error>) {
        let shard = self.progress.shard_of(stream);
        if !self.watches().is_watched(stream) {
            return;
        }
        let now = host.store.now();
        let wants = match error {
            Some(Error::NotFound { .. }) => Wants::Nothing,
            Some(error) if is_broken(error) => Wants::Nothing,
            // Whoever has its shape has a worker for it.
            Some(Error::UnknownDefinition { .. }) => Wants::Nothing,
            Some(Error::Unloadable {
                source: LoadError::DigestChanged { .. },
                ..
            }) => Wants::Nothing,
            Some(_) => Wants::Look {
                at: later(now, 2 * FAR),
                far_since: Some(now),
            },
            None => Wants::Look {
                at: later(now, Duration::from_secs(1)),
                far_since: None,
            },
        };
        self.watches().set(&self.progress, stream, shard, None, wants);
        self.sooner.notify_one();
    }

    /// Nothing is begun for a shard that is not held for certain. One whose lease is in doubt is prolonged soon, and then
    /// looked at; of one that is another's nothing is watched.
    fn look_again(&self, host: &Host, stream: &Arc<str>, shard: u16) {
        let mut watches = self.watches();
        if watches.is_watched(stream) {
            let wants = Wants::Look {
                at: later(host.store.now(), DOUBT),
                far_since: None,
            };
            watches.set(&self.progress, stream, shard, None, wants);
            self.sooner.notify_one();
        }
    }
    fn let_go(&self, stream: &Arc<str>, shard: u16) {
        self.watches().set(&self.progress, stream, shard, None, Wants::Nothing);
    }

    fn begin(self: &Arc<Self>, host: &Arc<Host>, stream: &Arc<str>, shard: u16, live: &Arc<Live>, work: LocalWork) {
        let of = (work.ask.effect, work.ask.phase, work.ask.attempt);
        if !self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(of) {
            return;
        }
        let begun = Begun {
            running: self.running.clone(),
            of,
        };
        let (worker, to, stream, live) = (self.clone(), host.clone(), stream.clone(), live.clone());
        let span = tracing::info_span!(
            "saga.step",
            saga.definition = &*live.plan.name,
            saga.key = &*live.state.identity.key,
            saga.step = &*work.ask.step,
            saga.phase = work.ask.phase.as_str(),
            saga.attempt = work.ask.attempt,
        );
        let run = async move {
            let permit = worker
                .tools
                .permits
                .acquire()
                .await
                .expect("invariant: the semaphore is never closed");
            if !worker.progress.holds(shard) {
                drop(begun);
                return worker.look_again(&to, &stream, shard);
            }
            let reported = worker.report(&live, &work).await;
            drop(permit);
            let cause = local_cause(&live.state, &work.ask, &reported);
            let kind = InputKind::Answer {
                ask: work.ask,
                reported,
            };
            let input = Input {
                cause,
                now: to.store.now(),
                kind,
            };
            to.queue.post(&to, &stream, Item::Outcome { input, begun });
        };
        host.queue.spawn(run.instrument(span));
    }

    /// Runs a local step, or its undo, for as long as it may take.
    async fn report(&self, live: &Live, work: &LocalWork) -> Reported {
        let started = Instant::now();
        let reported = tokio::select! {
            biased;
            ended = self.run(live, work) => reported(ended),
            () = tokio::time::sleep(work.timeout) => Reported::Unknown(format!("no end after {:?}", work.timeout)),
        };
        metric::local_step(&live.plan.name, &work.ask, &reported, started.elapsed());
        reported
    }

    async fn run(&self, live: &Live, work: &LocalWork) -> Result<Verdict, BoxError> {
        let identity = &live.state.identity;
        let memory = live
            .state
            .memory
            .as_ref()
            .map(crate::core::Memory::to_json)
            .transpose()?;
        let ask = Ask {
            effect: work.ask.effect,
            phase: work.ask.phase,
            command_name: work.ask.step.to_string(),
            command: memory.unwrap_or_else(|| Bytes::from_static(b"null")),
            definition: identity.definition.to_string(),
            saga: identity.instance,
            saga_key: identity.key.to_string(),
            step: work.ask.step.to_string(),
            attempt: work.ask.attempt,
            not_after: None,
            reply_to: None,
        };
        let run = self.effect(&work.run);
        let has_row = work.ask.phase == Phase::Compensate && is_behind_barrier(live, work);
        if !work.run.is_transactional() && !has_row {
            // An idempotent step has no row: asked again, its function is a no-op for a known effect.
            let given = Given {
                command: ask.command.clone(),
                reply: work.reply.clone(),
                ask,
                called: Called::default(),
            };
            fail::fail_point!("local.effect.before");
            let answered = run.run(given, Slot::default()).await;
            fail::fail_point!("local.effect.after");
            return answered.map(|answered| match answered {
                Answered::Done(reply) => Verdict::Done(reply),
                Answered::Rejected(rejection) => Verdict::Rejected(rejection),
            });
        }
        match work.ask.phase {
            Phase::Forward => self.tools.gate.pass(&ask, Some(&run), None).await,
            Phase::Compensate if has_row => {
                let action = action(live, work).map(|action| self.effect(action));
                self.tools
                    .gate
                    .pass(&ask, action.as_ref().map(|action| action as &dyn Effect), Some(&run))
                    .await
            }
            Phase::Compensate => {
                // The step itself has no row, so its undo is an effect of its own.
                let effect = MessageId::derived(work.ask.effect, "undo", 0).0;
                let reply = work.reply.clone().unwrap_or_else(|| Bytes::from_static(b"null"));
                let undo = Ask {
                    effect,
                    phase: Phase::Forward,
                    command: reply,
                    ..ask
                };
                self.tools.gate.pass(&undo, Some(&run), None).await
            }
        }
    }
    fn effect(&self, function: &Arc<dyn LocalRun>) -> LocalEffect {
        LocalEffect {
            function: function.clone(),
            states: self.tools.states.clone(),
        }
    }
}

/// Whether the step itself has a row that its undo goes by.
fn is_behind_barrier(live: &Live, work: &LocalWork) -> bool {
    action(live, work).is_some_and(|action| action.is_transactional())
}
fn action<'a>(live: &'a Live, work: &LocalWork) -> Option<&'a Arc<dyn LocalRun>> {
    let step = &live.plan.steps[live.plan.index(&work.ask.step)?];
    match (&step.kind, &step.undo) {
        (StepKind::Local { run, .. }, UndoPlan::Local(_) | UndoPlan::None) => Some(run),
        _ => None,
    }
}

fn reported(ended: Result<Verdict, BoxError>) -> Reported {
    match ended {
        Ok(Verdict::Done(reply)) => Reported::Done(reply),
        Ok(Verdict::Rejected(rejection)) => Reported::Rejected(rejection),
        Ok(Verdict::Expired) => Reported::Expired,
        Ok(Verdict::Failed(why)) => Reported::Failed(why),
        Ok(Verdict::Busy(_)) => Reported::Unknown("somebody else is at it".to_owned()),
        Err(error) if ErrorClass::of(&*error) == ErrorClass::Transient => Reported::Unknown(chain(&*error)),
        Err(error) => Reported::Failed(chain(&*error)),
    }
}

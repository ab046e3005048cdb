//! Inputs by saga: one task at a time for each, and what waits meanwhile is decided together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sagamill_bus::MessageId;
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use xxhash_rust::xxh3::xxh3_64;

use super::cache::Live;
use super::host::{Host, Outcome, ordinal};
use super::members::Needs;
use super::work::Begun;
use crate::core::{Ask, Input, InputKind, Reported, State};
use crate::{Error, Result, chain, metric_definitions as metric};

/// The longest pause before a turn is tried again that the database could not take.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What waits for a saga's turn.
pub(crate) enum Item {
    /// A reply off the bus. Its delivery is settled by what is said here; nothing is said where the turn was cut short.
    Reply {
        input: Input,
        settled: oneshot::Sender<Settled>,
    },
    /// What a local step came to. Once it is decided the step is not running any more.
    Outcome {
        input: Input,
        #[expect(dead_code, reason = "dropped with the item")]
        begun: Begun,
    },
    /// A look at what is due, on a state that is at least of this version.
    Wake { at_least: i64 },
}

/// What is said to a reply's delivery.
#[derive(Debug)]
pub(crate) enum Settled {
    /// What follows from it is durable, or nothing does.
    Decided,
    /// The log has no such saga.
    NoSuchSaga,
    /// This process does not know how to go on with the saga, another may: one that lives, or one that is about to.
    NotHere {
        why: String,
        /// One that lives has said that it can.
        is_elsewhere: bool,
    },
    /// This process cannot decide it now.
    NotNow(String),
}

/// The inputs that wait. An entry is there as long as a task is at its saga.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<HashMap<Arc<str>, Vec<Item>>>,
    tracker: TaskTracker,
    stop: Mutex<Stop>,
}

/// How the tasks of one run are told to end.
#[derive(Clone, Default)]
struct Stop {
    /// Do not wait for what may take long.
    soon: CancellationToken,
    /// Go.
    now: CancellationToken,
}

impl Queue {
    /// Adds an input to those of its saga, and begins its turn where there is none.
    pub(crate) fn post(&self, host: &Arc<Host>, stream: &Arc<str>, item: Item) {
        let mut waiting = self.lock();
        if let Some(items) = waiting.get_mut(stream) {
            return items.push(item);
        }
        waiting.insert(stream.clone(), vec![item]);
        drop(waiting);
        self.spawn(turns(host.clone(), stream.clone()));
    }
    /// Runs a task that ends before the coordinator does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let now = self.stop().now;
        self.tracker
            .spawn(async move { now.run_until_cancelled_owned(task).await });
    }
    /// Begins a run.
    pub(crate) fn open(&self) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Stop::default();
        self.tracker.reopen();
    }
    /// Waits for what is being done; what is not done in time is dropped, and done after the next start.
    pub(crate) async fn drain(&self, most: Duration) {
        let stop = self.stop();
        stop.soon.cancel();
        self.tracker.close();
        if tokio::time::timeout(most, self.tracker.wait()).await.is_err() {
            tracing::warn!("sagas did not come to rest in time; they go on after the next start");
            stop.now.cancel();
            self.tracker.wait().await;
        }
    }
    /// Drops what is being done.
    pub(crate) fn abort(&self) {
        self.stop().now.cancel();
    }
    fn stop(&self) -> Stop {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The items that wait for a saga; none: its task is done, and the next item begins another.
    fn take(&self, stream: &Arc<str>) -> Option<Vec<Item>> {
        let mut waiting = self.lock();
        let items = waiting.get_mut(stream).map(std::mem::take).unwrap_or_default();
        if items.is_empty() {
            waiting.remove(stream);
            return None;
        }
        Some(items)
    }
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Vec<Item>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a saga's turns until nothing waits for it.
async fn turns(host: Arc<Host>, stream: Arc<str>) {
    // A turn that panics must not leave an entry behind that nobody works on.
    let mut guard = Turns {
        host: &host,
        stream: &stream,
        done: false,
    };
    while let Some(items) = host.queue.take(&stream) {
        turn(&host, &stream, items).await;
    }
    guard.done = true;
}

struct Turns<'a> {
    host: &'a Arc<Host>,
    stream: &'a Arc<str>,
    done: bool,
}

impl Drop for Turns<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.host.queue.lock().remove(self.stream);
            self.host.give_up(self.stream, None);
        }
    }
}

async fn turn(host: &Arc<Host>, stream: &Arc<str>, items: Vec<Item>) {
    let decided = decide(host, stream, &items).await;
    match &decided {
        // What was appended has been looked at already.
        Ok(outcome) if outcome.appended => {}
        Ok(outcome) => host.look(stream, &outcome.live),
        Err(error) => host.give_up(stream, Some(error)),
    }
    for item in items {
        if let Item::Reply { settled, .. } = item {
            // Nobody may wait any more: the delivery was dropped then, and comes again.
            let _ = settled.send(settle(host, decided.as_ref().err()));
        }
    }
}

fn settle(host: &Host, error: Option<&Error>) -> Settled {
    match error {
        None => Settled::Decided,
        Some(Error::NotFound { .. }) => Settled::NoSuchSaga,
        // It is parked, and asks again when somebody has repaired it.
        Some(error) if is_broken(error) => Settled::Decided,
        Some(error) => match Needs::of(error) {
            Some(needs) if !host.members.have_missed(&needs, host.store.now()) => Settled::NotHere {
                why: chain(error),
                is_elsewhere: host.members.know(&needs),
            },
            _ => Settled::NotNow(chain(error)),
        },
    }
}

/// Whether a saga cannot go on in any process that has this code.
pub(crate) fn is_broken(error: &Error) -> bool {
    use crate::core::LoadError::{CodeChanged, Unreadable};
    match error {
        Error::Undecidable { .. } => true,
        Error::Unloadable { source, .. } => matches!(source, CodeChanged { .. } | Unreadable { .. }),
        _ => false,
    }
}

/// Decides all items together. Waits as long as the database takes, until the coordinator stops.
async fn decide(host: &Arc<Host>, stream: &Arc<str>, items: &[Item]) -> Result<Outcome> {
    let mut pause = Duration::from_millis(100);
    loop {
        match once(host, stream, items).await {
            Err(error) if error.is_retryable() => {
                tracing::warn!(stream = &**stream, error = chain(&error), "a saga waits for its log");
                let waited = host
                    .queue
                    .stop()
                    .soon
                    .run_until_cancelled(tokio::time::sleep(pause))
                    .await;
                if waited.is_none() {
                    return Err(error);
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(error @ (Error::Unloadable { .. } | Error::Undecidable { .. })) => {
                host.quarantine(stream, &error).await;
                return Err(error);
            }
            decided => return decided,
        }
    }
}

async fn once(host: &Arc<Host>, stream: &Arc<str>, items: &[Item]) -> Result<Outcome> {
    let at_least = items
        .iter()
        .map(|item| {
            if let Item::Wake { at_least } = item {
                *at_least
            } else {
                0
            }
        })
        .max();
    let at_least = at_least.unwrap_or_default();
    let wakes = items.iter().any(|item| matches!(item, Item::Wake { .. }));
    let inputs = |live: &Live| {
        let mut inputs: Vec<Input> = items.iter().filter_map(Item::input).cloned().collect();
        if wakes {
            inputs.extend(due(host, &live.state, live));
        }
        inputs
    };
    if !items.iter().any(|item| item.input().is_some()) {
        // Nothing but a look: where nothing is due, there is nothing to decide, and no need to be certain of it.
        let (live, _) = host.find(stream, at_least).await?;
        if inputs(&live).is_empty() {
            return Ok(Outcome {
                live,
                noops: Vec::new(),
                appended: false,
            });
        }
    }
    let outcome = host.decide(stream, at_least, inputs).await?;
    metric::noops(&outcome.live.plan, &outcome.noops);
    Ok(outcome)
}

/// What the clock has to say to a saga.
fn due(host: &Host, state: &State, live: &Live) -> Vec<Input> {
    let now = host.store.now();
    let timers = state.timers(&live.plan).into_iter().filter(|timer| timer.due <= now);
    let input = |timer: crate::core::Timer| {
        let (name, attempt) = match &timer.step {
            Some((step, phase, attempt)) => (format!("timer/{step}/{phase}"), *attempt),
            None => ("deadline".to_owned(), 0),
        };
        // The same timer, fired by two processes, makes the same events.
        let of = format!("{}/{name}/{}", state.identity.stream(), timer.due.as_microsecond());
        let cause = MessageId::derived(state.identity.instance, &of, attempt).0;
        let kind = match timer.step {
            Some((step, phase, attempt)) => InputKind::TimerFired {
                step: step.to_string(),
                phase,
                attempt,
                due: timer.due,
            },
            None => InputKind::DeadlineFired,
        };
        Input { cause, now, kind }
    };
    // Whoever can ask knows it.
    let known = state.waits_for_its_definition().then(|| Input {
        cause: MessageId::derived(state.identity.instance, "known", ordinal(state.version)).0,
        now,
        kind: InputKind::DefinitionKnown,
    });
    timers.map(input).chain(known).collect()
}

/// The cause of what a local step has come to: the same for each process that has learnt the same of it. Two may run one
/// attempt, and come to different ends: those are two things to decide on, and make two events.
pub(crate) fn local_cause(state: &State, ask: &Ask, reported: &Reported) -> uuid::Uuid {
    let Ask { effect, phase, .. } = ask;
    let (end, content) = match reported {
        Reported::Done(reply) => ("done", &**reply),
        Reported::Rejected(rejection) => ("rejected", &**rejection),
        Reported::Expired => ("expired", &[][..]),
        Reported::Failed(why) => ("failed", why.as_bytes()),
        Reported::Unknown(why) => ("unknown", why.as_bytes()),
    };
    let of = format!("local/{effect}/{phase}/{end}/{:016x}", xxh3_64(content));
    MessageId::derived(state.identity.instance, &of, ask.attempt).0
}

impl Item {
    fn input(&self) -> Option<&Input> {
        match self {
            Self::Reply { input, .. } | Self::Outcome { input, .. } => Some(input),
            Self::Wake { .. } => None,
        }
    }
}

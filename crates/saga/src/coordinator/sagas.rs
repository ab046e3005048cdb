//! What applications hold: all sagas of one definition, and one saga.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use sagamill_bus::MessageId;
use sagamill_eventstore::{AnyDatabase, Error as LogError, EventStore, Expected, InTransaction};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use super::cache::Live;
use super::host::{Host, ordinal, stream_of, unborn, undecidable};
use crate::core::{By, Decision, Direction, Input, InputKind, NoOp, Plan, State, Status, Why, react, why};
use crate::definition::NAME_BYTES_MAX;
use crate::{Error, Result, step::Data};

/// How long the end of a saga that goes on in this process is waited for, before the log is asked whether another process
/// has ended it: most end sooner.
const PATIENCE: Duration = Duration::from_millis(250);

/// All sagas of one definition. Cheap to clone: keep it in your application's state.
pub struct Sagas<S, D = AnyDatabase> {
    host: Arc<Host>,
    store: EventStore<D>,
    plan: Arc<Plan>,
    state: PhantomData<fn() -> S>,
}

impl<S, D> Clone for Sagas<S, D> {
    fn clone(&self) -> Self {
        Self {
            host: self.host.clone(),
            store: self.store.clone(),
            plan: self.plan.clone(),
            state: PhantomData,
        }
    }
}
impl<S, D> fmt::Debug for Sagas<S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sagas")
            .field("definition", &self.plan.name)
            .field("version", &self.plan.version)
            .finish()
    }
}

impl<S: Data, D: 'static> Sagas<S, D> {
    pub(crate) fn new(host: Arc<Host>, store: EventStore<D>, plan: Arc<Plan>) -> Self {
        Self {
            host,
            store,
            plan,
            state: PhantomData,
        }
    }
    /// Starts a saga, once per key: the second time, with the same input, the first one is returned. Dropped while it waits,
    /// the saga may still be started.
    ///
    /// # Errors
    /// [`Error::KeyReused`] where the key was used with another input; [`Error::InvalidKey`]; what the log says.
    pub async fn start(&self, key: impl ToString, input: S) -> Result<Instance<S>> {
        let (key, stream) = self.name(&key.to_string())?;
        let begin = self.begin(&key, &stream, &input)?;
        match self
            .host
            .append(&stream, &unborn(&self.plan, &key), begin.clone())
            .await
        {
            Ok(_) => Ok(self.instance(stream)),
            Err(Error::Store(LogError::Conflict { .. } | LogError::IdReused(_))) => {
                self.started(stream, &key, &begin.next).await
            }
            Err(error) => Err(error),
        }
    }
    /// Starts a saga in the caller's transaction: it exists if and only if that commits.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    #[expect(clippy::needless_pass_by_value, reason = "numbers and names are given as they are")]
    pub fn start_in<'a>(
        &'a self,
        tx: &'a mut impl InTransaction<D>,
        key: impl ToString,
        input: S,
    ) -> BoxFuture<'a, Result<Instance<S>>> {
        let key = key.to_string();
        Box::pin(async move {
            let (key, stream) = self.name(&key)?;
            let begin = self.begin(&key, &stream, &input)?;
            let events = begin.encode(&self.host.process);
            match self
                .store
                .append_in_checked(tx, &*stream, Expected::NoStream, events)
                .await
            {
                Ok(()) => Ok(self.instance(stream)),
                Err(LogError::Conflict { .. } | LogError::IdReused(_)) => self.started(stream, &key, &begin.next).await,
                Err(error) => Err(error.into()),
            }
        })
    }
    /// The saga of this key.
    ///
    /// # Errors
    /// [`Error::NotFound`]; what the log says.
    pub async fn get(&self, key: impl ToString) -> Result<Instance<S>> {
        let (key, stream) = self.name(&key.to_string())?;
        match self.host.find(&stream, 0).await {
            Err(Error::NotFound { .. }) => Err(Error::NotFound { key: key.to_string() }),
            looked => looked.map(|_| self.instance(stream)),
        }
    }

    fn name(&self, key: &str) -> Result<(Arc<str>, Arc<str>)> {
        if key.is_empty() || key.len() > NAME_BYTES_MAX || key.chars().any(char::is_control) {
            return Err(Error::InvalidKey { key: key.to_owned() });
        }
        Ok((key.into(), stream_of(&self.plan.name, key)))
    }
    /// Decides what a start appends: the saga's first event, and what follows from it at once.
    fn begin(&self, key: &str, stream: &Arc<str>, input: &S) -> Result<Decision> {
        let input = serde_json::to_vec(input).map(Bytes::from).map_err(Error::codec)?;
        let now = self.host.store.now();
        let input = Input {
            cause: cause(now, stream),
            now,
            kind: InputKind::Start { input },
        };
        react(&self.plan, &unborn(&self.plan, key).state, &[input]).map_err(|source| undecidable(stream, source))
    }
    /// The saga that has been started under this key before.
    async fn started(&self, stream: Arc<str>, key: &str, wanted: &State) -> Result<Instance<S>> {
        let known = match self.host.reload(&stream).await {
            // It was started by this very transaction, which nobody else can see.
            Err(Error::NotFound { .. }) => return Err(Error::KeyReused { key: key.to_owned() }),
            known => known?,
        };
        if known.state.input_hash != wanted.input_hash {
            return Err(Error::KeyReused { key: key.to_owned() });
        }
        Ok(self.instance(stream))
    }
    fn instance(&self, stream: Arc<str>) -> Instance<S> {
        Instance {
            host: self.host.clone(),
            stream,
            state: PhantomData,
        }
    }
}

/// The cause of a start: a UUID whose time is the log's, so that ids made of it grow, and whose rest is the stream's.
fn cause(now: jiff::Timestamp, stream: &str) -> Uuid {
    let mut bytes = xxh3_128(stream.as_bytes()).to_be_bytes();
    bytes[..6].copy_from_slice(&now.as_millisecond().to_be_bytes()[2..]);
    Uuid::new_v8(bytes)
}

/// One saga. Cheap to clone.
pub struct Instance<S> {
    host: Arc<Host>,
    stream: Arc<str>,
    state: PhantomData<fn() -> S>,
}

impl<S> Clone for Instance<S> {
    fn clone(&self) -> Self {
        Self {
            host: self.host.clone(),
            stream: self.stream.clone(),
            state: PhantomData,
        }
    }
}
impl<S> fmt::Debug for Instance<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instance").field(&self.stream).finish()
    }
}

impl<S: Data> Instance<S> {
    /// The stream of its events.
    pub fn stream(&self) -> &str {
        &self.stream
    }
    /// Where it is, as the log has it.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the transaction that starts it has not been committed; what the log says.
    pub async fn state(&self) -> Result<State> {
        Ok(self.host.reload(&self.stream).await?.state.clone())
    }
    /// Why it is where it is, in one sentence.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub async fn why(&self) -> Result<Why> {
        let live = self.host.reload(&self.stream).await?;
        Ok(why(&live.plan, &live.state, self.host.store.now()))
    }
    /// Waits for the end, or until somebody must look after it.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub async fn outcome(&self) -> Result<Outcome<S>> {
        let waiter = self.host.waiters.join(&self.stream);
        let mut is_first = true;
        loop {
            let heard = waiter.listen();
            let moved = waiter.moved(&self.host.store, heard);
            let live = match self.host.cache.get(&self.stream) {
                // What this process remembers may be behind the log, but an end is an end.
                Some(live) if live.state.is_ended() => live,
                Some(live) if is_first && live.state.status == Status::Running => {
                    is_first = false;
                    tokio::select! {
                        biased;
                        moved = moved => moved?,
                        () = tokio::time::sleep(PATIENCE) => {}
                    }
                    continue;
                }
                _ => self.host.reload(&self.stream).await?,
            };
            if let Some(outcome) = outcome(&live) {
                return Ok(outcome);
            }
            moved.await?;
        }
    }
    /// Undoes it. Past its pivot's request that is put on record, and acts only if the pivot is rejected.
    ///
    /// # Errors
    /// [`Error::Illegal`] where it has ended.
    pub async fn cancel(&self, reason: &str) -> Result<()> {
        let by = By {
            actor: self.host.process.clone(),
            reason: reason.to_owned(),
        };
        self.tell("cancel", InputKind::Cancel { by, seen: None }).await
    }
    /// Goes on where it is parked; where it is not, asks at once what waits for its next try.
    ///
    /// # Errors
    /// [`Error::Illegal`] where nothing waits.
    pub async fn resume(&self, reason: &str) -> Result<()> {
        let by = By {
            actor: self.host.process.clone(),
            reason: reason.to_owned(),
        };
        self.tell("resume", InputKind::Resume { by, seen: None }).await
    }
    /// Tells it what an operator wants. A verb that names the version it was meant for is refused once the saga has moved.
    ///
    /// # Errors
    /// [`Error::Illegal`] where it does not fit where the saga is.
    pub async fn tell(&self, verb: &'static str, kind: InputKind) -> Result<()> {
        // An operator may want the same twice, and mean it: the version tells one time from the other, since an append is
        // made once at each.
        let input = |live: &Live| {
            let now = self.host.store.now();
            let of = format!("{verb}/{}", now.as_microsecond());
            let cause = MessageId::derived(live.state.identity.instance, &of, ordinal(live.state.version)).0;
            let kind = kind.clone();
            vec![Input { cause, now, kind }]
        };
        let outcome = self.host.decide(&self.stream, 0, input).await?;
        match outcome.noops.first() {
            None | Some((_, NoOp::AlreadyCancelled)) => Ok(()),
            Some((_, NoOp::Ended)) => Err(Error::Illegal {
                verb,
                status: status(&outcome.live.state).to_owned(),
            }),
            Some((_, noop)) => {
                let status = format!("{} ({noop:?})", status(&outcome.live.state));
                Err(Error::Illegal { verb, status })
            }
        }
    }
}

/// A status in a word.
fn status(state: &State) -> &'static str {
    match state.status {
        Status::New => "not started",
        Status::Running if state.is_unwinding() => "being undone",
        Status::Running => "running",
        Status::Parked(_) => "parked",
        Status::Completed => "completed",
        Status::Compensated { .. } => "compensated",
    }
}

/// How a saga ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome<S> {
    /// Each step is done.
    Completed(S),
    /// What had been done has been undone.
    Compensated {
        /// What it remembered at the end.
        state: S,
        /// Why.
        reason: String,
    },
    /// It waits for an operator.
    Parked {
        /// What it remembers.
        state: S,
        /// The step that it waits at; empty where it is none.
        step: String,
        /// Why.
        reason: String,
    },
}

/// None: it goes on.
fn outcome<S: Data>(live: &Live) -> Option<Outcome<S>> {
    let state: S = live.state.memory.as_ref()?.get::<S>()?.clone();
    match &live.state.status {
        Status::Completed => Some(Outcome::Completed(state)),
        Status::Compensated { .. } => {
            let reason = match &live.state.direction {
                Direction::Unwind { reason } => reason.clone(),
                Direction::Forward => String::new(),
            };
            Some(Outcome::Compensated { state, reason })
        }
        Status::Parked(parked) => {
            let step = parked.ask.as_ref().map(|ask| ask.step.to_string()).unwrap_or_default();
            Some(Outcome::Parked {
                state,
                step,
                reason: parked.text.clone(),
            })
        }
        Status::New | Status::Running => None,
    }
}

//! The log as a transport of the bus: what is published is appended, and a group is a subscription.
//!
//! ```text
//! publish ──▶ envelope ──▶ appender ──▶ log ──▶ feed ──▶ pump ──▶ book ──▶ members ──▶ handlers
//!                                        ▲                │ ▲                  │
//!                                        │                ▼ │ notes            │ settle
//!                       checkpoints, leases, what is begun, dead letters ◀─────┘
//! ```
//!
//! * A message is an event with a topic, named by its *delivery id*: message, topic and generation. One that is published
//!   again is there already.
//! * A group's subscription has 64 shards by message key, leased by its processes. A settlement counts only under the lease
//!   that its delivery was made under.
//! * What is acknowledged is passed by the shard's checkpoint, and nothing is written of it. A message that failed, or that
//!   holds the checkpoint up, is written down (`backlog.rs`): then the checkpoint may pass it. So a process that dies has at
//!   most [`BEGUN_SPAN`](crate::backlog::BEGUN_SPAN) positions of each shard handled again, however long one message takes.
//! * A retry that waits is a row with a time, which holds its key over restarts and take-overs.
//! * After an owner that did not end well, its messages are in *doubt*: one of them may have been what killed it. Each is
//!   counted before it is tried: together with others at first, then alone. So a message that kills its process is
//!   delivered at most once more than its attempts, and another loses at most one attempt by it.
//! * No transaction is open while a handler runs.
//!
//! * A shard is given to another process when nothing of it is out: so no message is in two hands, however slow its handler.
//!   A process must close its bus: of one that ends otherwise, the messages are in doubt.
//!
//! What a group has not settled is counted from the saved checkpoints: what was acknowledged behind a message that is not, or
//! since the last save, may still be among it. What is delivered and what waits, only the processes of the group know.
//!
//! The log is not trimmed: it keeps every message, for groups that are yet to come and for dead letters.
//!
//! # Kill points
//!
//! Beside those of the bus and of the log: `bus.note.before`, `bus.note.after`, `bus.requeue.before`, `bus.requeue.after`.

mod audience;
mod book;
mod dead;
mod entry;
mod envelope;
mod group;
mod inspect;
mod member;
mod notes;
mod publish;
mod pump;
mod settle;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sagamill_bus::{
    Bus, Capabilities, DeadLetterStore, Deliveries, Error, Inspect, Message, OrderScope, Receipt, Result, Start,
    Subscribe, Topic, Transport, Transports,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[cfg(feature = "conformance")]
pub(crate) use book::WRITTEN_MAX;

use self::{
    audience::{Audience, subscription},
    dead::DeadLetterOffice,
    group::Group,
    inspect::Inspector,
    member::Member,
    publish::Publisher,
    pump::Pump,
};
use crate::{EventStore, From, ShardBy, relay::Origin};

/// Fixed for ever: the shard of a key is kept by it.
const SHARDS: u16 = 64;
/// Fewest messages that a group's subscription reads in advance, and the most, whatever its members ask for.
const HELD: (usize, usize) = (2_048, 65_536);
/// Most bytes of a group's name.
const GROUP_MAX: usize = 255;

/// A log as a bus transport, to be given to [`Bus::new`].
///
/// Durable, ordered per key over all processes of a group, also across retries; with groups, replay, patterns, delays and
/// dead letters; a message that is published again under its delivery id is dropped. Processes share it by sharing the
/// database.
///
/// A group has a place of its own in each topic or pattern that it subscribes to: where two of them cover the same topic it
/// gets those messages by both.
///
/// What was appended to the log with a topic, and not published, is delivered too, as a relay would send it. A relay from a
/// log to itself is therefore not needed; it does no harm.
pub struct LogTransport {
    store: EventStore,
    /// The store was opened for this bus, and is closed with it.
    owns_store: bool,
    name: &'static str,
    ttl: Duration,
    publisher: Publisher,
    groups: Mutex<BTreeMap<(Topic, String), Slot>>,
    closed: CancellationToken,
    tasks: TaskTracker,
}

/// A group of this connection. Opening and ending one take turns.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Group>>>>;

/// Adds `sqlite:` and `postgres:` to a bus's transports, those of them that this build has.
#[must_use]
pub fn register(transports: Transports) -> Transports {
    let connect = |url: String| async move { LogTransport::connect(&url).await.map(Bus::new) };
    ["sqlite", "postgres", "postgresql"]
        .into_iter()
        .fold(transports, |transports, scheme| transports.register(scheme, connect))
}

impl<D> EventStore<D> {
    /// The log as a bus: see [`LogTransport`]. Each call makes a connection of its own, to be closed before the store.
    pub fn bus(&self) -> Bus {
        Bus::new(LogTransport::new(self))
    }
}

impl LogTransport {
    /// A connection over a store that stays the caller's.
    pub fn new<D>(store: &EventStore<D>) -> Self {
        let (store, audience) = (store.any(), Arc::default());
        // The bus in memory has that name.
        let name = match store.backend().name() {
            "memory" => "memory-log",
            name => name,
        };
        let publisher = Publisher {
            store: store.clone(),
            transport: name,
            audience,
        };
        Self {
            store,
            owns_store: false,
            name,
            ttl: Duration::from_secs(10),
            publisher,
            groups: Mutex::default(),
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }
    /// A connection over a store of its own, opened by its URL: `sqlite:bus.db`.
    ///
    /// # Errors
    /// [`Error::FeatureOff`], [`Error::UnknownScheme`], [`Error::Unusable`], or [`Error::Disconnected`].
    pub async fn connect(url: &str) -> Result<Self> {
        let store = EventStore::connect(url).await.map_err(|error| fault(&error))?;
        Ok(Self {
            owns_store: true,
            ..Self::new(&store)
        })
    }
    /// How long a process may be silent before another takes over its shards; 10 s by default, at least 30 ms and at most 5
    /// minutes.
    #[must_use]
    pub fn lease(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    fn slot(&self, request: &Subscribe) -> Slot {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let id = (request.topic.clone(), request.group.clone());
        groups.entry(id).or_default().clone()
    }
    async fn open(&self, request: &Subscribe) -> Result<Arc<Group>> {
        if request.group.len() > GROUP_MAX || request.group.contains('\0') {
            return Err(Error::Unsupported {
                transport: self.name,
                wanted: "names of groups that are longer than 255 bytes or have a NUL in them",
            });
        }
        let name = subscription(&request.topic, &request.group);
        let from = match request.start {
            Start::Latest => From::Now,
            _ => From::Beginning,
        };
        let held = request.max_in_flight.saturating_mul(2).clamp(HELD.0, HELD.1);
        let subscription = self.store.subscribe(name.as_str()).topic(request.topic.clone());
        let subscription = subscription.shards(SHARDS, ShardBy::Key).from(from);
        let feed = subscription.lease(self.ttl).max_in_flight(held).asks().open().await;
        let feed = feed.map_err(|error| fault(&error))?;
        self.publisher.audience.add(&request.topic);
        let backend = self.store.backend().clone();
        let stop = self.closed.child_token();
        let group = Arc::new(Group::new(
            request,
            self.name,
            name,
            feed.progress(),
            backend.clone(),
            stop,
        ));
        let pump = Pump::new(group.clone(), backend, self.origin(), feed);
        self.tasks.spawn(pump.run());
        Ok(group)
    }
    fn origin(&self) -> Origin {
        Origin::of(self.store.log_id())
    }
}

impl Transport for LogTransport {
    fn name(&self) -> &'static str {
        self.name
    }
    fn capabilities(&self) -> Capabilities {
        let mut promises = Capabilities::default();
        promises.order_scope = OrderScope::Group;
        promises.ordered_retry = true;
        promises.durable = true;
        promises.delay = true;
        promises.groups = true;
        promises.replay = true;
        promises.dedupe = true;
        promises.wildcards = true;
        promises
    }
    async fn publish(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        if self.closed.is_cancelled() {
            return batch.iter().map(|_| Err(Error::Closed)).collect();
        }
        self.publisher.publish(topic, batch).await
    }
    async fn subscribe(&self, request: Subscribe) -> Result<Deliveries> {
        if self.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        let slot = self.slot(&request);
        let mut open = slot.lock().await;
        if let Some(group) = &*open {
            match group.join(&request) {
                Ok(Some(member)) => return Ok(Box::pin(Member::new(group.clone(), member))),
                Ok(None) => group.ended.cancelled().await,
                Err(error) => return Err(error),
            }
        }
        let group = self.open(&request).await?;
        let member = group.join(&request)?;
        *open = Some(group.clone());
        // Closed in between.
        let member = member.ok_or(Error::Closed)?;
        Ok(Box::pin(Member::new(group, member)))
    }
    async fn close(&self) -> Result<()> {
        self.closed.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if self.owns_store {
            self.store.close().await;
        }
        Ok(())
    }
    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterStore>> {
        Some(Arc::new(DeadLetterOffice {
            store: self.store.clone(),
            transport: self.name,
            origin: self.origin(),
        }))
    }
    fn inspection(&self) -> Option<Arc<dyn Inspect>> {
        Some(Arc::new(Inspector(self.store.clone())))
    }
}

impl std::fmt::Debug for LogTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogTransport")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// What an error of the log means to those on the bus.
fn fault(error: &crate::Error) -> Error {
    match error {
        crate::Error::ShutDown => Error::Closed,
        crate::Error::Fenced { .. } => Error::Stale,
        crate::Error::Unknown(_) => Error::Unconfirmed(error.clone().into()),
        crate::Error::FeatureOff { scheme, feature } => Error::FeatureOff {
            scheme: scheme.clone(),
            feature,
        },
        crate::Error::UnknownScheme { scheme } => Error::UnknownScheme { scheme: scheme.clone() },
        error if error.is_retryable() => Error::Disconnected(error.clone().into()),
        error => Error::Unusable(error.clone().into()),
    }
}

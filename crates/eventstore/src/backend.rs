//! The seam to databases: what a log must be able to do, held as `dyn` inside [`EventStore`](crate::EventStore).
//!
//! Four traits, because four parts of the crate stand on them: [`Log`] (append, read), [`Desk`] (who reads what, how far:
//! checkpoints, leases, timers, members), [`Backlog`](crate::backlog::Backlog) (what a bus's groups have begun, and what
//! they gave up) and [`Census`](crate::census::Census) (what a bus tells of itself). Memory, SQLite and PostgreSQL each implement them in a folder of their own.

use std::{any::Any, time::Duration};

use futures_core::future::BoxFuture;
use jiff::Timestamp;
use sagamill_bus::Topic;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::{
    Anchor, Append, Error, Health, Lease, Position, Receipt, Recorded, Result, StreamId, backlog::Backlog,
    bell::Listener, census::Census, entry::Entry,
};

/// All that a store needs of a database.
pub(crate) trait Backend: Log + Desk + Backlog + Census {}
impl<T: Log + Desk + Backlog + Census> Backend for T {}

/// Appends and reads.
pub(crate) trait Log: Send + Sync + 'static {
    /// `memory`, `sqlite`, `postgres`.
    fn name(&self) -> &'static str;
    /// Names this log for ever.
    fn log_id(&self) -> Uuid;
    /// See [`EventStore::new_id`](crate::EventStore::new_id).
    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
    /// See [`EventStore::new_owner`](crate::EventStore::new_owner).
    fn new_owner(&self) -> Uuid {
        self.new_id()
    }
    /// See [`EventStore::is_gone`](crate::EventStore::is_gone).
    fn is_gone(&self, owner: Uuid) -> BoxFuture<'_, Result<bool>> {
        let _ = owner;
        Box::pin(std::future::ready(Ok(false)))
    }
    /// Stores batches in one commit. Each succeeds or fails by itself, in their order; an error of the commit itself is
    /// bisected, so that only the culprit fails. The appender gives it a stream at most once per flush.
    fn flush(&self, entries: Vec<Entry>) -> BoxFuture<'_, Vec<Result<Vec<Receipt>>>>;
    /// Takes events into a caller's transaction, over its own connection: sqlx's of this database. Answers those whose
    /// places are known already, as the log has them once that is committed.
    fn append_in<'a>(
        &'a self,
        connection: &'a mut (dyn Any + Send),
        append: Append,
        how: Join,
    ) -> BoxFuture<'a, Result<Vec<Recorded>>> {
        let _ = (connection, append, how);
        let what = "a log can be joined only in a transaction on the database that holds it".to_owned();
        Box::pin(std::future::ready(Err(Error::Invalid { what })))
    }
    /// How often events have joined a transaction of this process, where that is counted.
    fn joined(&self) -> u64 {
        0
    }
    /// A transaction of this process has been committed, which began when this many had joined one. These events are its
    /// last statements' and have just come into the log, maybe with others before them. Called in the caller's turn.
    fn committed(&self, events: Vec<Recorded>, joined: u64) {
        let _ = (events, joined);
        self.ring();
    }
    /// Waits until what this process has staged and committed has its positions: at once, where they come with the commit.
    fn sequenced(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
    /// One page.
    fn read(&self, query: Query) -> BoxFuture<'_, Result<Page>>;
    /// The last event.
    fn head(&self) -> BoxFuture<'_, Result<Anchor>>;
    /// The event at a position.
    fn event_at(&self, position: Position) -> BoxFuture<'_, Result<Option<Uuid>>>;
    /// The first position whose event is of this time or later; that after the head where there is none.
    fn since(&self, time: Timestamp) -> BoxFuture<'_, Result<Position>>;
    /// The caller's turn to write, where the writers of this process must queue.
    fn turn(&self) -> BoxFuture<'_, Turn>;
    /// Moves when there may be more to read: a hint, never data. Fed by appends of this process and by the bell.
    fn wake(&self) -> Listener;
    /// Wakes the readers of this process, after a commit that the log has not seen.
    fn ring(&self);
    /// The log's clock: that by which events are stamped, leases end and timers fire.
    fn now(&self) -> Timestamp;
    /// See [`EventStore::alone_since`](crate::EventStore::alone_since).
    fn alone_since(&self) -> Option<Timestamp> {
        None
    }
    /// How it is, but for its head and its subscriptions.
    fn health(&self) -> BoxFuture<'_, Result<Health>>;
    /// Waits by the log's clock.
    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'_, ()>;
    /// Ends its threads, after what they are at.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// How events join a caller's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// As facts.
    Staged,
    /// If the stream is as expected.
    Checked,
}

/// A place in the queue of writers, given back when it is dropped. Where writers need no queue it is none.
#[derive(Debug, Default)]
pub(crate) struct Turn(#[expect(dead_code, reason = "it is held for its drop")] Option<OwnedMutexGuard<()>>);

#[cfg(feature = "sqlite")]
impl Turn {
    pub(crate) fn of(queue: OwnedMutexGuard<()>) -> Self {
        Self(Some(queue))
    }
}

/// The system's time, in whole microseconds since 1970, as logs in a database keep it.
#[cfg(feature = "sqlite")]
pub(crate) fn micros() -> i64 {
    Timestamp::now().as_microsecond()
}

/// Who reads what, and how far. Times are by the log's clock. Every write under a lease compares owner and fence.
pub(crate) trait Desk: Send + Sync + 'static {
    /// Says that an owner works under a name (a subscription's, or another), or wants to, for so long, and what it says of
    /// itself. Answers all that do, itself among them.
    fn join<'a>(
        &'a self,
        name: &'a str,
        owner: Uuid,
        about: Option<&'a str>,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<Member>>>;
    /// Takes that back.
    fn leave<'a>(&'a self, name: &'a str, owner: Uuid) -> BoxFuture<'a, Result<()>>;
    /// Takes shards of a subscription that nobody holds, or whose lease has ended, at most `most`; makes all their rows
    /// where the subscription is new, at `start`, which is their first anchor. Each new owner gets a higher fence. Where the
    /// last owner did not give the shard back, its doubt rises to [`BEGUN_SPAN`](crate::backlog::BEGUN_SPAN) after its
    /// checkpoint, at most to the head.
    /// [`Error::Invalid`](crate::Error::Invalid) where the subscription has another number of shards.
    fn claim<'a>(&'a self, ask: &'a Claim) -> BoxFuture<'a, Result<Vec<Claimed>>>;
    /// Prolongs leases, also those that have ended and that nobody took since; those that are lost are not in the answer.
    fn renew<'a>(&'a self, leases: &'a [Lease], ttl: Duration) -> BoxFuture<'a, Result<Vec<Lease>>>;
    /// Gives leases back, so that another process need not wait for their end.
    fn release<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<()>>;
    /// Moves checkpoints forward, each if owner and fence still match, and keeps where they are: every
    /// [`ANCHOR_EVERY`] at most, the last [`ANCHORS`] of each. Answers those that are lost. One that is further already stays
    /// where it is, and is not lost.
    fn save<'a>(&'a self, moves: &'a [(Lease, Anchor)]) -> BoxFuture<'a, Result<Vec<Lease>>>;
    /// All checkpoints, for operators and `lag`.
    fn checkpoints(&self) -> BoxFuture<'_, Result<Vec<Checkpoint>>>;
    /// The anchors of a shard, the newest first.
    fn anchors<'a>(&'a self, name: &'a str, shard: u16) -> BoxFuture<'a, Result<Vec<Anchor>>>;
    /// Puts a checkpoint where the operator says: rewind, or accept another history. Its owner loses it, and anchors that
    /// lie beyond it are forgotten.
    fn reset<'a>(&'a self, name: &'a str, shard: u16, to: Anchor) -> BoxFuture<'a, Result<()>>;
    /// Writes timers down, under a lease; one of the same id is replaced. [`Error::Fenced`](crate::Error::Fenced).
    fn schedule<'a>(&'a self, lease: &'a Lease, timers: &'a [Timer]) -> BoxFuture<'a, Result<()>>;
    /// Takes timers away, under a lease. [`Error::Fenced`](crate::Error::Fenced).
    fn unschedule<'a>(&'a self, lease: &'a Lease, ids: &'a [String]) -> BoxFuture<'a, Result<()>>;
    /// The timers of a shard that are due before a time, the earliest first.
    fn timers<'a>(&'a self, name: &'a str, shard: u16, before: Timestamp) -> BoxFuture<'a, Result<Vec<Timer>>>;
}

/// No lease lasts longer; one that seems to was written before the clock was set back, and holds nothing.
pub(crate) const TTL_MAX: Duration = Duration::from_mins(5);

/// How many anchors are kept of each shard.
pub(crate) const ANCHORS: usize = 64;
/// How long a shard's anchors lie apart, at least: a standby lags by seconds, and what follows on an anchor is handed out
/// again.
pub(crate) const ANCHOR_EVERY: Duration = Duration::from_secs(1);

/// A page of a reading.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// One stream, or the whole log.
    pub(crate) stream: Option<StreamId>,
    /// Only this category.
    pub(crate) category: Option<String>,
    /// Only these types; empty: all.
    pub(crate) names: Vec<String>,
    /// Only what the relay publishes.
    pub(crate) published: bool,
    /// Only what is published here: a topic, or a pattern of topics. It goes with `published`.
    pub(crate) topic: Option<Topic>,
    /// Forward: after this position (of a stream: version). Backward: before it; none: from the end.
    pub(crate) after: Option<i64>,
    /// Up to this position (of a stream: version), included; backward: down to it.
    pub(crate) until: Option<i64>,
    /// Only what is at these positions of the log, both included, whatever `after` and `until` count by.
    pub(crate) positions: Option<(Position, Position)>,
    /// From the newest to the oldest.
    pub(crate) backward: bool,
    /// Most events in the page.
    pub(crate) limit: usize,
    /// Of the log, forward: say also which event stands at `after`, as this very reading saw it; the follower has this one
    /// there.
    pub(crate) anchored: Option<Anchor>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            stream: None,
            category: None,
            names: Vec::new(),
            published: false,
            topic: None,
            after: None,
            until: None,
            positions: None,
            backward: false,
            limit: 1_000,
            anchored: None,
        }
    }
}

impl Query {
    /// The lowest and the highest number (position; of a stream: version) that it may look at.
    pub(crate) fn bounds(&self) -> (i64, i64) {
        if self.backward {
            (self.until.unwrap_or(1), self.after.map_or(i64::MAX, |after| after - 1))
        } else {
            (self.after.unwrap_or(0) + 1, self.until.unwrap_or(i64::MAX))
        }
    }
    /// Whether it may leave events out.
    #[cfg(feature = "postgres")]
    pub(crate) fn is_filtered(&self) -> bool {
        self.category.is_some() || !self.names.is_empty() || self.published || self.positions.is_some()
    }
    /// Whether its filters let an event through.
    pub(crate) fn wants(&self, event: &Recorded) -> bool {
        self.category
            .as_ref()
            .is_none_or(|category| event.stream.category() == category)
            && (self.names.is_empty() || self.names.contains(&event.name))
            && (!self.published || event.topic.is_some())
            && self
                .topic
                .as_ref()
                .is_none_or(|topic| event.topic.as_ref().is_some_and(|of| topic.covers(of)))
            && self
                .positions
                .is_none_or(|(low, high)| low <= event.position && event.position <= high)
    }
}

/// Events, and how far was looked: beyond the last one where a filter left out the rest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    /// In the order asked for.
    pub(crate) events: Vec<Recorded>,
    /// How far was looked (a position; of a stream: a version). A filtered subscription moves its checkpoint by this.
    pub(crate) scanned: i64,
    /// The event at `scanned`, where `scanned` is a position that was looked at.
    pub(crate) anchor: Anchor,
    /// There is nothing more for now.
    pub(crate) end: bool,
    /// The event at `after`, where that was asked for.
    pub(crate) before: Option<Uuid>,
}

impl Page {
    /// Whether the event that it was anchored at still stands where it stood.
    pub(crate) fn follows(&self, anchor: Anchor) -> bool {
        anchor.position == Position(0) || self.before == anchor.event
    }
}

/// A wish for shards.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    /// The subscription.
    pub(crate) name: String,
    /// How many shards it has, for ever.
    pub(crate) shards: u16,
    /// Who asks.
    pub(crate) owner: Uuid,
    /// How long a lease lasts unless renewed.
    pub(crate) ttl: Duration,
    /// Where a new subscription starts.
    pub(crate) start: Anchor,
    /// Most shards wanted now.
    pub(crate) most: u16,
}

impl Claim {
    /// # Errors
    /// [`Error::Invalid`] where the subscription has another number of shards by now: the place of a key would change.
    pub(crate) fn check_shards(&self, rows: usize) -> Result<()> {
        if rows == usize::from(self.shards) {
            return Ok(());
        }
        let (name, asked) = (&self.name, self.shards);
        Err(Error::Invalid {
            what: format!("subscription `{name}` has {rows} shards for ever, not {asked}: give it another name"),
        })
    }
}

/// A shard that was taken, and where its last owner came to.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    /// The right to work on it.
    pub(crate) lease: Lease,
    /// Where to go on.
    pub(crate) checkpoint: Anchor,
    /// Up to here an owner that did not end well may have begun messages.
    pub(crate) doubt: Position,
}

/// How far a shard of a subscription is, for operators.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The subscription.
    pub name: String,
    /// Its shard.
    pub shard: u16,
    /// How far.
    pub at: Anchor,
    /// Who holds it, and until when.
    pub owner: Option<(Uuid, Timestamp)>,
}

/// A process that works under a name, and has said so lately.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The process.
    pub id: Uuid,
    /// What it says of itself, as JSON.
    pub about: Option<String>,
}

/// Something to be done at a time, in a table because it is far off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// Unique in its subscription and shard.
    pub id: String,
    /// When.
    pub due: Timestamp,
    /// What, in the owner's own words.
    pub payload: Vec<u8>,
}

//! Subscriptions: catch-up, then live, without a seam; sharded, leased, with checkpoints.

use std::time::Duration;

use futures_core::future::BoxFuture;
use jiff::Timestamp;
use sagamill_bus::BoxError;

use crate::{Lease, Position, Recorded, Result, Timer};

/// A named subscription to a log, being set up. Its name is that of its checkpoints: keep it for ever.
///
/// Events are spread over a fixed number of shards by their stream (or key); a shard is worked on by one process at a time,
/// in order, and several processes share the shards.
#[derive(Debug, Clone)]
#[must_use = "a subscription does nothing until `open` or `run`"]
pub struct Subscription {}

/// By what events are spread over shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ShardBy {
    /// Their stream: all events of a stream in order.
    #[default]
    Stream,
    /// Their message key, or their stream where they have none.
    Key,
}

/// Where a subscription that is new begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum From {
    /// At the first event of the log.
    #[default]
    Beginning,
    /// At what is appended from now on.
    Now,
    /// After this position.
    After(Position),
}

impl Subscription {
    /// Only events of this category.
    pub fn category(self, _category: impl Into<String>) -> Self {
        self
    }
    /// Only events of these types.
    pub fn types<T: Into<String>>(self, _names: impl IntoIterator<Item = T>) -> Self {
        self
    }
    /// Only what has a topic.
    pub fn published(self) -> Self {
        self
    }
    /// Where it begins when it is new.
    pub fn from(self, _from: From) -> Self {
        self
    }
    /// How many shards it has, and by what events are spread over them. Fixed for ever by its first use; 1 by default.
    pub fn shards(self, _count: u16, _by: ShardBy) -> Self {
        self
    }
    /// How long a process may be silent before another takes over its shards; 10 s by default.
    pub fn lease(self, _ttl: Duration) -> Self {
        self
    }
    /// Most events that are handed out and not done yet; 1,024 by default. At the bound, reading waits.
    pub fn max_in_flight(self, _events: usize) -> Self {
        self
    }
    /// Opens it: the caller handles the events and says when each is done.
    ///
    /// # Errors
    /// [`Error::LogDiverged`](crate::Error::LogDiverged), or what the database says.
    pub async fn open(self) -> Result<Feed> {
        todo!()
    }
    /// Runs a handler for each event, in order per shard, until `shutdown`. An error is tried again with growing pauses and
    /// holds its shard.
    ///
    /// # Errors
    /// As [`open`](Self::open); the handler's own errors are not among them.
    pub async fn run<H>(self, _handler: H, _shutdown: impl Future<Output = ()> + Send) -> Result<()>
    where
        H: FnMut(Recorded) -> BoxFuture<'static, Result<(), BoxError>> + Send,
    {
        todo!()
    }
}

/// What a feed says.
#[derive(Debug)]
#[non_exhaustive]
pub enum Signal {
    /// The next event of a shard. Call [`Progress::done`] when it is handled, or never needs to be.
    Event {
        /// Its shard.
        shard: u16,
        /// The event.
        event: Recorded,
    },
    /// This process has taken a shard over; its events follow, from its last owner's checkpoint on. Drop what is remembered
    /// of it, and read its timers.
    Gained {
        /// The right to it.
        lease: Lease,
    },
    /// This process no longer has the shard: stop working on it.
    Lost {
        /// The shard.
        shard: u16,
    },
    /// Everything appended so far has been handed out.
    CaughtUp {
        /// Up to here.
        at: Position,
    },
}

/// An open subscription. Dropped without [`close`](Feed::close), its leases run out by themselves.
#[derive(Debug)]
pub struct Feed {}

impl Feed {
    /// The next signal. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::LogDiverged`](crate::Error::LogDiverged) ends it. An unavailable database does not: it waits and says so
    /// in the log.
    pub async fn next(&mut self) -> Result<Signal> {
        todo!()
    }
    /// The handle by which events are marked done, from any task.
    pub fn progress(&self) -> Progress {
        todo!()
    }
    /// The log's clock.
    pub fn now(&self) -> Timestamp {
        todo!()
    }
    /// Saves the checkpoints and gives the leases back, so that another process takes over at once.
    ///
    /// # Errors
    /// What the database says; the leases then run out by themselves.
    pub async fn close(self) -> Result<()> {
        todo!()
    }
}

/// Marks events done; cheap to clone. A shard's checkpoint is the low watermark: all before it are done. It is saved
/// lazily (every 100 ms or 1,000 events): a crash repeats events, and loses none.
#[derive(Debug, Clone)]
pub struct Progress {}

impl Progress {
    /// The event is done with.
    pub fn done(&self, _shard: u16, _position: Position) {
        todo!()
    }
    /// Whether the shard is still this process's, by its own monotonic clock, with a third of the lease to spare.
    pub fn holds(&self, _shard: u16) -> bool {
        todo!()
    }
    /// Writes far-off timers down, so that the checkpoint may pass the events that asked for them.
    ///
    /// # Errors
    /// [`Error::Fenced`](crate::Error::Fenced) where the shard is another's by now.
    pub async fn schedule(&self, _shard: u16, _timers: &[Timer]) -> Result<()> {
        todo!()
    }
    /// Takes timers away.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule).
    pub async fn unschedule(&self, _shard: u16, _ids: &[String]) -> Result<()> {
        todo!()
    }
    /// The shard's timers that are due before a time, the earliest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn timers(&self, _shard: u16, _before: Timestamp) -> Result<Vec<Timer>> {
        todo!()
    }
}

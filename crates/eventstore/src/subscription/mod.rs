//! Subscriptions: catch-up, then live, without a seam; sharded, leased, with checkpoints.
//!
//! An open subscription is a [`Feed`]. Behind it stand a reader, which takes pages of the log into the shards that this
//! process holds, and a keeper, which claims shards, prolongs their leases and saves their checkpoints; both work on what
//! lies in `shared`, and the feed hands out from there.

mod divergence;
mod feed;
mod keeper;
mod progress;
mod reader;
mod runner;
mod shard;
mod shared;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use futures_core::future::BoxFuture;
use sagamill_bus::{BoxError, Topic};
use tokio::time::Instant;

use crate::{
    Lease, Position, Recorded, Result,
    backend::{Backend, Query, TTL_MAX},
};

pub(crate) use divergence::{Verdict, settle};
pub use feed::Feed;
pub use progress::Progress;
pub(crate) use reader::place;

/// A named subscription to a log, being set up. Its name is that of its checkpoints: keep it for ever.
///
/// Events are spread over a fixed number of shards by their stream (or key); a shard is worked on by one process at a time,
/// in order, and several processes share the shards.
#[derive(Clone)]
#[must_use = "a subscription does nothing until `open` or `run`"]
pub struct Subscription {
    backend: Arc<dyn Backend>,
    name: String,
    filter: Query,
    start: From,
    shards: u16,
    by: ShardBy,
    ttl: Duration,
    pause: Duration,
    max_in_flight: usize,
    hand_over: Duration,
    asks: bool,
}

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
    pub(crate) fn new(backend: Arc<dyn Backend>, name: impl Into<String>) -> Self {
        Self {
            backend,
            name: name.into(),
            filter: Query::default(),
            start: From::default(),
            shards: 1,
            by: ShardBy::default(),
            ttl: Duration::from_secs(10),
            pause: Duration::ZERO,
            max_in_flight: 1_024,
            hand_over: TTL_MAX,
            asks: false,
        }
    }
    /// Only events of this category.
    pub fn category(mut self, category: impl Into<String>) -> Self {
        self.filter.category = Some(category.into());
        self
    }
    /// Only events of these types.
    pub fn types<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.filter.names = names.into_iter().map(Into::into).collect();
        self
    }
    /// Only what has a topic.
    pub fn published(mut self) -> Self {
        self.filter.published = true;
        self
    }
    /// Only what is published on a topic, or on one of a pattern.
    pub(crate) fn topic(mut self, topic: Topic) -> Self {
        self.filter.published = true;
        self.filter.topic = Some(topic);
        self
    }
    /// A shard that is to go to another process goes when the feed's user lets it go, and stays for now where it does not:
    /// see [`View::leaving`](progress::View).
    pub(crate) fn asks(self) -> Self {
        Self { asks: true, ..self }
    }
    /// Where it begins when it is new.
    pub fn from(self, from: From) -> Self {
        Self { start: from, ..self }
    }
    /// How many shards it has, and by what events are spread over them. Fixed for ever by its first use; 1 by default.
    pub fn shards(self, count: u16, by: ShardBy) -> Self {
        Self {
            shards: count.max(1),
            by,
            ..self
        }
    }
    /// How long a process may be silent before another takes over its shards; 10 s by default, at least
    /// 30 ms and at most 5 minutes.
    pub fn lease(self, ttl: Duration) -> Self {
        Self {
            ttl: ttl.clamp(Duration::from_millis(30), TTL_MAX),
            ..self
        }
    }
    /// Reads at most once in so long, and then all that came meanwhile: for a subscription that is not in a hurry. By
    /// default it reads at once.
    pub fn at_most_every(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }
    /// Most events that are handed out (or read in advance) and not done yet; 1,024 by default. At the bound, reading waits.
    /// A shard that gets nothing done takes at most half of it, several of them share what they take, so that the other
    /// shards go on.
    pub fn max_in_flight(self, events: usize) -> Self {
        Self {
            max_in_flight: events.max(1),
            ..self
        }
    }
    /// How long a shard that is to go to another process waits for its events that are not done, at most: nothing more of it
    /// is handed out meanwhile. By default as long as the lease. What is not done by then, the other one begins again: short
    /// where that costs little.
    pub fn hand_over_within(self, time: Duration) -> Self {
        Self {
            hand_over: time,
            ..self
        }
    }
    /// Opens it: the caller handles the events and says when each is done.
    ///
    /// # Errors
    /// [`Error::LogDiverged`](crate::Error::LogDiverged); [`Error::Invalid`](crate::Error::Invalid) for another number of
    /// shards than at its first use; or what the database says.
    pub async fn open(self) -> Result<Feed> {
        Feed::open(self).await
    }
    /// Runs a handler for each event, in order per shard, until `shutdown`. An error is tried again with growing pauses and
    /// holds its shard.
    ///
    /// # Errors
    /// As [`open`](Self::open); the handler's own errors are not among them.
    pub async fn run<H>(self, handler: H, shutdown: impl Future<Output = ()> + Send) -> Result<()>
    where
        H: FnMut(Recorded) -> BoxFuture<'static, Result<(), BoxError>> + Send,
    {
        let feed = self.open().await?;
        runner::run(feed, handler, shutdown).await
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name,
            filter,
            start,
            shards,
            by,
            ..
        } = self;
        let mut debug = f.debug_struct("Subscription");
        debug.field("name", name).field("filter", filter).field("start", start);
        debug.field("shards", shards).field("by", by).finish_non_exhaustive()
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

/// Growing pauses between tries: 100 ms, half as long again each time, up to a bound. So what came back is found after at most
/// half of the time that it was away.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pauses {
    /// How long the last one was asked to be, in milliseconds; 0: there was none.
    last: u32,
}

impl Pauses {
    /// The pause after one more failure.
    pub(crate) fn next(&mut self, most: Duration) -> Duration {
        let pause = self.last.saturating_add(self.last / 2).max(100);
        let pause = Duration::from_millis(pause.into()).min(most);
        self.last = u32::try_from(pause.as_millis()).unwrap_or(u32::MAX);
        pause
    }
    /// When that pause will be over.
    pub(crate) fn until(&mut self, most: Duration) -> Instant {
        Instant::now() + self.next(most)
    }
    /// All is well again.
    pub(crate) fn reset(&mut self) {
        self.last = 0;
    }
}

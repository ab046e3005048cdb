//! The seam to databases, as a log that serves as a bus needs it: messages that a group has begun and not ended, and those
//! that it gave up.
//!
//! What is plainly acknowledged never comes here: the checkpoint passes it. A message is written down when it has failed,
//! or when it holds the checkpoint up for too long; from then on the checkpoint may pass it. The next owner of its shard
//! reads what was written down, and then the log from the checkpoint on.

use futures_core::future::BoxFuture;
use jiff::Timestamp;
use sagamill_bus::Topic;
use uuid::Uuid;

use crate::{Anchor, Lease, Position, Result};

/// What a group has begun, and what it gave up. Every write but [`exhume`](Backlog::exhume) is under a lease.
pub(crate) trait Backlog: Send + Sync + 'static {
    /// What is known of a shard's messages: those that are begun, by position; and those after a position that were given up.
    fn backlog<'a>(&'a self, name: &'a str, shard: u16, after: Position) -> BoxFuture<'a, Result<Begun>>;
    /// Writes down what became of messages, in their order and in one commit. Answers the leases that are lost, of whose
    /// messages nothing is written.
    fn note<'a>(&'a self, notes: &'a [(Lease, Note)]) -> BoxFuture<'a, Result<Vec<Lease>>>;
    /// How many dead letters each topic and group has, by topic, then by group; those that have none are left out.
    fn graveyards(&self) -> BoxFuture<'_, Result<Vec<(Topic, String, usize)>>>;
    /// Dead letters of a topic and group, by number.
    fn graves<'a>(&'a self, ask: &'a Graves) -> BoxFuture<'a, Result<Vec<Grave>>>;
    /// Takes a dead letter away; answers whether it was there.
    fn exhume(&self, number: i64) -> BoxFuture<'_, Result<bool>>;
}

/// How far beyond its saved checkpoint, in positions, the owner of a shard hands out messages that are not written down.
/// So far the messages of an owner that did not end well are in doubt, and no further.
pub(crate) const BEGUN_SPAN: i64 = 1_000;

/// What is known of a shard's messages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Begun {
    /// Begun and not ended.
    pub(crate) open: Vec<Open>,
    /// Given up.
    pub(crate) buried: Vec<Anchor>,
}

/// A message that is begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Open {
    /// Its event.
    pub(crate) at: Anchor,
    /// Its key, which it may hold.
    pub(crate) key: Option<String>,
    /// Attempts that count.
    pub(crate) attempts: u32,
    /// It is not tried again before.
    pub(crate) due: Timestamp,
}

/// What became of a message.
#[derive(Debug, Clone)]
pub(crate) enum Note {
    /// It is begun and not ended; in place of what was noted of it before.
    Keep(Open),
    /// It has ended: nothing is known of it any more. Also where nothing was.
    Forget(Position),
    /// It was given up: in place of what was noted of it before, and of an earlier death of the same message.
    Bury(Burial),
}

/// A message that is given up.
#[derive(Debug, Clone)]
pub(crate) struct Burial {
    /// Its event.
    pub(crate) at: Anchor,
    /// Its topic.
    pub(crate) topic: Topic,
    /// Who gave it up.
    pub(crate) group: String,
    /// The message's id.
    pub(crate) message: Uuid,
    /// How many attempts were made.
    pub(crate) attempts: u32,
    /// Why.
    pub(crate) reason: String,
}

/// A wish for dead letters.
#[derive(Debug, Clone)]
pub(crate) struct Graves {
    /// Their topic.
    pub(crate) topic: Topic,
    /// Who gave them up.
    pub(crate) group: String,
    /// Only those with a higher number.
    pub(crate) after: i64,
    /// Only that of this message.
    pub(crate) message: Option<Uuid>,
    /// At most so many.
    pub(crate) limit: usize,
}

/// A dead letter: where its message lies, and how it died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grave {
    /// Grows with each death; never used twice.
    pub(crate) number: i64,
    /// The message's event.
    pub(crate) at: Anchor,
    /// How many attempts were made.
    pub(crate) attempts: u32,
    /// Why it was given up.
    pub(crate) reason: String,
    /// When, by the log's clock.
    pub(crate) died: Timestamp,
}

//! A log in this process's memory: for tests, and the model that the databases are held against.

mod backlog;
mod census;
mod clock;
mod desk;
mod id;
mod ledger;
mod log;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::{AnyPool, EventStore, Position};
use id::Ids;
pub(crate) use log::MemoryLog;

/// A log in this process's memory that outlives its stores, and can be made to misbehave: each [`open`](Self::open) is
/// as a process that starts on the same database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Memory(Arc<MemoryLog>);

/// What happens to a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing special.
    #[default]
    None,
    /// Not stored, and the callers are told so: [`Error::Unavailable`](crate::Error::Unavailable).
    Refused,
    /// Not stored, and the callers cannot know: [`Error::Unknown`](crate::Error::Unknown).
    LostBefore,
    /// Stored, and the callers cannot know: [`Error::Unknown`](crate::Error::Unknown).
    LostAfter,
}

impl Memory {
    /// An empty log whose clock starts at the present time.
    pub fn new() -> Self {
        Self::starting_at(Timestamp::now())
    }
    /// An empty log whose clock starts at this time, and goes as tokio's does.
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Arc::new(MemoryLog::new(start, Ids::Random)))
    }
    /// An empty log whose clock starts at this time and whose [new ids](EventStore::new_id) are drawn from a seed, its own
    /// among them: under a current-thread runtime with paused time, what is done on it can be repeated bit by bit. Each log
    /// of a run needs another seed.
    pub fn seeded(start: Timestamp, seed: u64) -> Self {
        Self(Arc::new(MemoryLog::new(start, Ids::seeded(seed))))
    }
    /// A store on it, with an appender of its own.
    pub fn open(&self) -> EventStore {
        EventStore::over(self.0.clone(), AnyPool::Memory)
    }
    /// Moves its clock, forward or back.
    pub fn jump(&self, by: SignedDuration) {
        self.0.jump(by);
    }
    /// Decides about each flush from now on, given the number of batches in it.
    pub fn on_flush(&self, decide: impl FnMut(usize) -> Fault + Send + 'static) {
        self.0.on_flush(Box::new(decide));
    }
    /// Forgets all events after this position, as a failover to a lagging replica does. Checkpoints stay.
    pub fn lose_tail(&self, after: Position) {
        self.0.lose_tail(after);
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

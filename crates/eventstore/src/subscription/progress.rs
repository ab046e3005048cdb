//! The handle by which events are marked done, from any task.

use std::sync::Arc;

use jiff::Timestamp;

use super::reader::place;
use super::shared::{Shared, lease_of};
use crate::{Position, Result, Timer, backend::Backend};

/// Marks events done; cheap to clone. A shard's checkpoint is the low watermark: all before it are done. It is saved
/// lazily (every 100 ms or 1,000 events): a crash repeats events, and loses none.
#[derive(Clone)]
pub struct Progress {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) shared: Arc<Shared>,
    pub(super) name: Arc<str>,
    pub(super) shards: u16,
}

impl Progress {
    /// The event is done with. Of a shard that was lost, or done before, it does nothing.
    pub fn done(&self, shard: u16, position: Position) {
        self.shared.done(shard, position);
    }
    /// Whether the shard is still this process's, by its own monotonic clock, with a third of the lease to spare.
    pub fn holds(&self, shard: u16) -> bool {
        self.shared.lock().holds(shard)
    }
    /// The shard of a stream; of a key, where events are spread by key.
    #[must_use]
    pub fn shard_of(&self, stream: &str) -> u16 {
        place(stream, self.shards)
    }
    /// Writes far-off timers down, so that the checkpoint may pass the events that asked for them.
    ///
    /// # Errors
    /// [`Error::Fenced`](crate::Error::Fenced) where the shard is another's by now.
    pub async fn schedule(&self, shard: u16, timers: &[Timer]) -> Result<()> {
        let lease = lease_of(&self.shared, &self.name, shard)?;
        self.backend.schedule(&lease, timers).await
    }
    /// Takes timers away.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule).
    pub async fn unschedule(&self, shard: u16, ids: &[String]) -> Result<()> {
        let lease = lease_of(&self.shared, &self.name, shard)?;
        self.backend.unschedule(&lease, ids).await
    }
    /// The shard's timers that are due before a time, the earliest first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn timers(&self, shard: u16, before: Timestamp) -> Result<Vec<Timer>> {
        self.backend.timers(&self.name, shard, before).await
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress")
            .field("subscription", &self.name)
            .finish_non_exhaustive()
    }
}

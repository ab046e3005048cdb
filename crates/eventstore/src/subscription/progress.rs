//! The handle by which events are marked done, from any task.

use std::sync::{Arc, MutexGuard};

use jiff::Timestamp;

use super::reader::place;
use super::shared::{Shared, State, lease_of};
use crate::{Anchor, Lease, Position, Result, Timer, backend::Backend};

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

/// For those who keep more of a shard than how far it is.
impl Progress {
    /// The shards as they are now. Held for a few steps and never across an await; nothing else of this handle may be called
    /// meanwhile.
    pub(crate) fn view(&self) -> View<'_> {
        View(self.shared.lock())
    }
    /// Where the owner under this lease began, and up to where messages are in doubt; none where it is lost again.
    pub(crate) fn claim(&self, lease: &Lease) -> Option<(Anchor, Position)> {
        let state = self.shared.lock();
        let shard = state.shards.get(&lease.shard).filter(|shard| shard.lease == *lease);
        shard.map(|shard| (shard.began, shard.doubt))
    }
    /// Saves the checkpoints that moved without waiting for more.
    pub(crate) fn save_now(&self) {
        self.shared.save_now();
    }
    /// Waits until checkpoints are saved, or shards are to go to another process. For one task.
    pub(crate) async fn changed(&self) {
        self.shared.changed.notified().await;
    }
    /// A shard that is leaving may go.
    pub(crate) fn let_go(&self, shard: u16) {
        let mut state = self.shared.lock();
        if state.shards.get_mut(&shard).is_some_and(|shard| shard.let_go()) {
            self.shared.work.notify_one();
        }
    }
}

/// The shards of a feed, looked at.
pub(crate) struct View<'a>(MutexGuard<'a, State>);

/// How a shard stands that may be worked on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// Its checkpoint as it is stored.
    pub(crate) saved: Position,
    /// Its checkpoint as it would be stored now.
    pub(crate) low: Position,
}

impl View<'_> {
    /// The shards that are to go to another process.
    pub(crate) fn leaving(&self) -> Vec<u16> {
        let leaving = self.0.shards.iter().filter(|(_, shard)| shard.is_leaving());
        leaving.map(|(number, _)| *number).collect()
    }
    /// None where the shard is another's, or its lease in doubt.
    pub(crate) fn standing(&self, shard: u16) -> Option<Standing> {
        let held = self.0.shards.get(&shard).filter(|_| self.0.holds(shard))?;
        Some(Standing {
            saved: held.checkpoint().position,
            low: held.low().position,
        })
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress")
            .field("subscription", &self.name)
            .finish_non_exhaustive()
    }
}

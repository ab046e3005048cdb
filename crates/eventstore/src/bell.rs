//! The bell that wakes readers of this process: a hint that there may be more to read, never data.

use tokio::sync::watch;

use crate::Position;

/// Rung after each commit. It carries the last position that the ringer knew, which may lag behind the log.
#[derive(Debug)]
pub(crate) struct Bell(watch::Sender<Position>);

impl Bell {
    pub(crate) fn new(head: Position) -> Self {
        Self(watch::Sender::new(head))
    }
    /// The log has come to this position.
    pub(crate) fn ring_at(&self, head: Position) {
        self.0.send_replace(head);
    }
    /// The log has grown, by how much is not known.
    pub(crate) fn ring(&self) {
        self.0.send_modify(|_| ());
    }
    /// The last position that was rung.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn last(&self) -> Position {
        *self.0.borrow()
    }
    pub(crate) fn listen(&self) -> watch::Receiver<Position> {
        self.0.subscribe()
    }
    /// Whether anybody in this process would hear it.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn has_listeners(&self) -> bool {
        self.0.receiver_count() > 0
    }
}

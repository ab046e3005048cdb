//! The bell that wakes readers of this process: a hint that there may be more to read, never data.
//!
//! It wakes them in the order in which they began to wait. tokio's `watch` would draw that order by lot, and no run could be
//! repeated.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use tokio::sync::Notify;

use crate::Position;

/// Rung after each commit. It carries the last position that the ringer knew, which may lag behind the log.
#[derive(Debug)]
pub(crate) struct Bell(Arc<Rings>);

#[derive(Debug)]
struct Rings {
    head: AtomicI64,
    count: AtomicU64,
    waiting: Notify,
}

/// One who listens to a bell. What is rung from its making on is heard, also while it does not wait.
#[derive(Debug)]
pub(crate) struct Listener {
    rings: Arc<Rings>,
    heard: u64,
}

impl Bell {
    pub(crate) fn new(head: Position) -> Self {
        Self(Arc::new(Rings {
            head: AtomicI64::new(head.0),
            count: AtomicU64::new(0),
            waiting: Notify::new(),
        }))
    }
    /// The log has come to this position.
    pub(crate) fn ring_at(&self, head: Position) {
        self.0.head.store(head.0, Ordering::Release);
        self.ring();
    }
    /// The log has grown, by how much is not known.
    pub(crate) fn ring(&self) {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        self.0.waiting.notify_waiters();
    }
    /// The last position that was rung.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn last(&self) -> Position {
        self.0.last()
    }
    pub(crate) fn listen(&self) -> Listener {
        Listener {
            heard: self.0.count.load(Ordering::Acquire),
            rings: self.0.clone(),
        }
    }
    /// Whether anybody in this process would hear it.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn has_listeners(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Rings {
    fn last(&self) -> Position {
        Position(self.head.load(Ordering::Acquire))
    }
}

impl Listener {
    /// The last position that was rung.
    pub(crate) fn last(&self) -> Position {
        self.rings.last()
    }
    /// What was rung up to now is no news.
    pub(crate) fn forget(&mut self) {
        self.heard = self.rings.count.load(Ordering::Acquire);
    }
    /// Waits until the bell is rung; returns at once where it was since it was last heard. Cancel-safe.
    pub(crate) async fn rung(&mut self) {
        loop {
            // Waiting begins before the look: what is rung between the two wakes.
            let notified = self.rings.waiting.notified();
            let count = self.rings.count.load(Ordering::Acquire);
            if count != self.heard {
                self.heard = count;
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::Bell;
    use crate::Position;

    #[tokio::test]
    async fn what_is_rung_before_the_wait_is_heard_once() {
        let bell = Bell::new(Position(3));
        let mut listener = bell.listen();
        bell.ring_at(Position(7));
        bell.ring();
        listener.rung().await;
        assert_eq!(listener.last(), Position(7));
        let again = tokio::time::timeout(std::time::Duration::from_millis(1), listener.rung());
        assert!(again.await.is_err());
        bell.ring();
        listener.forget();
        let forgotten = tokio::time::timeout(std::time::Duration::from_millis(1), listener.rung());
        assert!(forgotten.await.is_err());
    }

    #[tokio::test]
    async fn listeners_are_woken_in_the_order_in_which_they_wait() {
        let (bell, order) = (Bell::new(Position(0)), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..50 {
            let (mut listener, order) = (bell.listen(), order.clone());
            tasks.spawn(async move {
                listener.rung().await;
                order.lock().unwrap().push(n);
            });
        }
        tokio::task::yield_now().await;
        bell.ring();
        tasks.join_all().await;
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
    }
}

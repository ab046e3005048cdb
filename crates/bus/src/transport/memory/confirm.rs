//! Waits until every group that got a message has settled it.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Confirm {
    left: AtomicUsize,
    done: Notify,
}

impl Confirm {
    /// Before the first group gets the message.
    pub(super) fn expect(&self, groups: usize) {
        self.left.store(groups, Ordering::Release);
    }
    /// One group is done with it.
    pub(super) fn settle(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Keeps a permit, so the one waiter may come later.
            self.done.notify_one();
        }
    }
    pub(super) async fn settled(&self) {
        if self.left.load(Ordering::Acquire) > 0 {
            self.done.notified().await;
        }
    }
}

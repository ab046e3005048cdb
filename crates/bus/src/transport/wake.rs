//! Wakers that are called after the lock that they were collected under.

use std::task::Waker;

/// For authors of transports: wakes when it is dropped. Made before the lock is taken, it outlives it.
#[derive(Debug, Default)]
pub struct Wake(Vec<Waker>);

impl Wake {
    /// Adds one, if there is one; they are woken in this order.
    pub fn add(&mut self, waker: impl IntoIterator<Item = Waker>) {
        self.0.extend(waker);
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

//! The memory log's clock: tokio's, so that it stands still where tokio's is paused, and can be made to jump.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::{sync::Notify, time::Instant};

#[derive(Debug)]
pub(super) struct Clock {
    start: Timestamp,
    began: Instant,
    /// Microseconds that it has been moved by, either way.
    jumped: AtomicI64,
    /// Wakes those who sleep, in the order in which they began to.
    jumps: Notify,
}

impl Clock {
    pub(super) fn starting_at(start: Timestamp) -> Self {
        Self {
            start,
            began: Instant::now(),
            jumped: AtomicI64::new(0),
            jumps: Notify::new(),
        }
    }
    /// In whole microseconds, as the databases keep it.
    pub(super) fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        let micros = self.start.as_microsecond() + elapsed + self.jumped.load(Ordering::SeqCst);
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
    }
    pub(super) fn jump(&self, by: SignedDuration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.jumped.fetch_add(micros, Ordering::SeqCst);
        self.jumps.notify_waiters();
    }
    pub(super) async fn sleep_until(&self, due: Timestamp) {
        loop {
            // Listening comes first: a jump between the look at the clock and the sleep is noticed.
            let jumped = self.jumps.notified();
            let left = due.duration_since(self.now());
            let Ok(left) = Duration::try_from(left) else { return };
            if left.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(left) => (),
                () = jumped => (),
            }
        }
    }
}

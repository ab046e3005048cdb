//! The database's clock, as this process can know it: never ahead of it, so that nothing that is due by it is done early.
//!
//! Whenever the database says what time it is, it was so at some moment between the question and the answer. That gives the
//! least that its clock is ahead of this process's monotonic one, and the most. The least counts, less what clocks may drift
//! apart since.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::watch;

/// How much slower than this process's the database's clock may go, in microseconds per second: what NTP may slow one down.
const DRIFT: i64 = 500;
/// A change that those who wait for a time should hear of.
const STEP: i64 = 50_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    reading: Mutex<Reading>,
    steps: watch::Sender<()>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    /// The database's clock less this process's, in microseconds: at least so much.
    ahead: i64,
    /// When that was known, in microseconds since the origin.
    at: i64,
}

impl Clock {
    /// From the first answer.
    pub(super) fn new(said: Timestamp, heard: Instant) -> Self {
        let reading = Reading {
            ahead: said.as_microsecond(),
            at: 0,
        };
        Self {
            origin: heard,
            reading: Mutex::new(reading),
            steps: watch::Sender::new(()),
        }
    }
    /// The database has said what time it is, between `asked` and `heard`.
    pub(super) fn observe(&self, said: Timestamp, asked: Instant, heard: Instant) {
        let (asked, heard) = (self.since_origin(asked), self.since_origin(heard));
        let (least, most) = (said.as_microsecond() - heard, said.as_microsecond() - asked);
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = reading.ahead(heard);
        if least > before || before > most {
            *reading = Reading {
                ahead: least,
                at: heard,
            };
            drop(reading);
            if (least - before).abs() > STEP {
                self.steps.send_replace(());
            }
        }
    }
    /// The database's time, or a little before it.
    pub(super) fn now(&self) -> Timestamp {
        let now = self.since_origin(Instant::now());
        let reading = *self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        Timestamp::from_microsecond(now + reading.ahead(now)).unwrap_or(Timestamp::MAX)
    }
    /// How long it is since the database last moved it.
    pub(super) fn age(&self) -> Duration {
        let now = self.since_origin(Instant::now());
        let reading = *self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_micros((now - reading.at).unsigned_abs())
    }
    /// Hears when it was set, forward or back.
    pub(super) fn steps(&self) -> watch::Receiver<()> {
        self.steps.subscribe()
    }

    fn since_origin(&self, at: Instant) -> i64 {
        let since = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        match at.checked_duration_since(self.origin) {
            Some(after) => since(after),
            None => -since(self.origin.duration_since(at)),
        }
    }
}

impl Reading {
    fn ahead(&self, now: i64) -> i64 {
        self.ahead - (now - self.at).max(0) * DRIFT / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(1_700_000_000_000_000 + micros).expect("a time in this century")
    }
    fn read(clock: &Clock, at: Instant) -> i64 {
        let now = clock.since_origin(at);
        let reading = *clock.reading.lock().expect("nothing panics under the lock");
        now + reading.ahead(now) - time(0).as_microsecond()
    }

    proptest! {
        /// Whatever the questions and answers take, and however the database's clock drifts within bounds.
        #[test]
        fn it_is_never_ahead_of_the_database(
            drift in -DRIFT..=DRIFT,
            talks in prop::collection::vec((0_u64..5_000_000, 0_u64..20_000, 0_u64..20_000), 1..40),
        ) {
            let origin = Instant::now();
            let truth = |at: i64| at + at * drift / 1_000_000;
            let clock = Clock::new(time(truth(0)), origin);
            let mut at = 0_i64;
            for (pause, there, back) in talks {
                at += pause as i64;
                let now = origin + Duration::from_micros(at as u64);
                prop_assert!(read(&clock, now) <= truth(at) + 1);
                let said = at + there as i64;
                let heard = said + back as i64;
                let instant = |at: i64| origin + Duration::from_micros(at as u64);
                clock.observe(time(truth(said)), instant(at), instant(heard));
                at = heard;
                prop_assert!(read(&clock, instant(at)) <= truth(at) + 1);
                let behind = truth(at) - read(&clock, instant(at));
                prop_assert!(behind <= (there + back) as i64 + 50, "it is {behind} behind");
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_is_followed_both_ways() {
        let origin = Instant::now();
        let clock = Clock::new(time(0), origin);
        let steps = clock.steps();
        let hour = 3_600_000_000;
        for (seconds, set) in [(1, hour), (2, hour), (3, -hour)] {
            let at = origin + Duration::from_secs(seconds);
            clock.observe(time(seconds as i64 * 1_000_000 + set), at, at);
            assert_eq!(read(&clock, at), seconds as i64 * 1_000_000 + set);
        }
        assert!(steps.has_changed().expect("the clock lives"));
    }
}

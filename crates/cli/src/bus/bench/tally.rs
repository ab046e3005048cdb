//! What has come of a bench: each message by its number, how often, and how long it was under way.

use std::{collections::BTreeSet, time::Duration};

use super::stamp::Stamp;

#[derive(Debug)]
pub(super) struct Tally {
    /// By number.
    times: Vec<u8>,
    /// How many have come at least once.
    different: usize,
    /// Of the first coming of each, in microseconds.
    latencies: Vec<u32>,
    /// When the last of them came, since the run began.
    last: Duration,
    /// Messages of no run, or of another one.
    strangers: u64,
}

impl Tally {
    pub(super) fn new(messages: u32) -> Self {
        Self {
            times: vec![0; messages as usize],
            different: 0,
            latencies: Vec::with_capacity(messages as usize),
            last: Duration::ZERO,
            strangers: 0,
        }
    }
    /// Takes note of one that has come, or of a stranger.
    pub(super) fn see(&mut self, stamp: Option<Stamp>, now: Duration) {
        let Some((stamp, times)) = stamp.and_then(|stamp| Some((stamp, self.times.get_mut(stamp.number as usize)?)))
        else {
            self.strangers += 1;
            return;
        };
        *times = times.saturating_add(1);
        if *times == 1 {
            let latency = now.saturating_sub(stamp.sent).as_micros();
            self.latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
            self.different += 1;
            self.last = now;
        }
    }
    /// Whether all have come but perhaps those that were not confirmed.
    pub(super) fn is_complete(&self, failed: &BTreeSet<u32>) -> bool {
        self.different + failed.len() >= self.times.len() && self.lost(failed).next().is_none()
    }
    /// Those that were confirmed and have not come.
    pub(super) fn lost<'a>(&'a self, failed: &'a BTreeSet<u32>) -> impl Iterator<Item = u32> {
        let numbers = (0_u32..).zip(&self.times);
        numbers
            .filter(|(number, times)| **times == 0 && !failed.contains(number))
            .map(|(number, _)| number)
    }
    /// How often some came more than once.
    pub(super) fn doubled(&self) -> u64 {
        let again = self.times.iter().map(|times| u64::from(times.saturating_sub(1)));
        again.sum()
    }
    pub(super) fn different(&self) -> usize {
        self.different
    }
    pub(super) fn last(&self) -> Duration {
        self.last
    }
    pub(super) fn strangers(&self) -> u64 {
        self.strangers
    }
    /// So many of a hundred were under way for no longer; none where nothing has come.
    pub(super) fn percentile(&mut self, percent: usize) -> Option<Duration> {
        self.latencies.sort_unstable();
        let rank = (self.latencies.len() * percent).div_ceil(100);
        let micros = self.latencies.get(rank.checked_sub(1)?)?;
        Some(Duration::from_micros(u64::from(*micros)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u32) -> Option<Stamp> {
        let sent = Duration::from_millis(10);
        Some(Stamp { number, sent })
    }

    #[test]
    fn what_was_confirmed_and_has_not_come_is_lost() {
        let mut tally = Tally::new(4);
        let failed = BTreeSet::from([3]);
        for number in [0, 2, 2, 2] {
            tally.see(stamp(number), Duration::from_millis(15));
        }
        tally.see(None, Duration::from_millis(16));
        assert_eq!(tally.lost(&failed).collect::<Vec<_>>(), [1]);
        assert!(!tally.is_complete(&failed));
        assert_eq!((tally.doubled(), tally.different(), tally.strangers()), (2, 2, 1));
        tally.see(stamp(1), Duration::from_millis(20));
        assert!(tally.is_complete(&failed));
        assert_eq!(tally.last(), Duration::from_millis(20));
    }

    #[test]
    fn of_a_hundred_the_fiftieth_is_the_median() {
        let mut tally = Tally::new(100);
        assert_eq!(tally.percentile(50), None);
        for number in 0..100 {
            tally.see(stamp(number), Duration::from_millis(u64::from(number) + 11));
        }
        assert_eq!(tally.percentile(50), Some(Duration::from_millis(50)));
        assert_eq!(tally.percentile(99), Some(Duration::from_millis(99)));
    }
}

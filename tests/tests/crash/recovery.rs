//! How long sagas that were in flight at a fault took to end.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Those that wait, and how long the others waited.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    waiting: BTreeSet<String>,
    since: Option<Instant>,
    took: Vec<Duration>,
    slowest: Option<(Duration, String)>,
    caught: usize,
}

impl Recovery {
    /// A fault caught these.
    pub(crate) fn begin(&mut self, caught: BTreeSet<String>, at: Instant) {
        self.caught += caught.len();
        self.waiting = caught;
        self.since = Some(at);
    }
    /// The clock of those that wait starts now.
    pub(crate) fn restart(&mut self, at: Instant) {
        self.since = Some(at);
    }
    /// A saga has ended.
    pub(crate) fn ended(&mut self, saga: &str, at: Instant) {
        if let Some(since) = self.since.filter(|_| self.waiting.remove(saga)) {
            let took = at.saturating_duration_since(since);
            self.took.push(took);
            if self.slowest.as_ref().is_none_or(|(longest, _)| took > *longest) {
                self.slowest = Some((took, saga.to_owned()));
            }
        }
    }
    /// Those that have not ended.
    pub(crate) fn waiting(&self) -> &BTreeSet<String> {
        &self.waiting
    }
    /// Whether all have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.waiting.is_empty()
    }
    /// The one that took longest.
    pub(crate) fn slowest(&self) -> Option<&str> {
        self.slowest.as_ref().map(|(_, saga)| saga.as_str())
    }
    /// How many were in flight at the faults, all together.
    pub(crate) fn caught(&self) -> usize {
        self.caught
    }
    /// What became of them, in a line.
    pub(crate) fn summary(&mut self) -> String {
        self.took.sort();
        let last = self.took.len().saturating_sub(1);
        let at = |share: f64| {
            let index = (self.took.len() as f64 * share) as usize;
            self.took.get(index.min(last)).copied().unwrap_or_default()
        };
        let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
        format!(
            "{} sagas in flight, ended after p50 {p50:?} p99 {p99:?} max {max:?}",
            self.caught
        )
    }
}

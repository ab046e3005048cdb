//! How the messages that a dead process may have begun are tried again, one of which may have been what killed it.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

/// So long a trial keeps others waiting at most.
const TRIAL: Duration = Duration::from_secs(30);
/// Most that are tried together: as many as a subscription has in flight where nothing else is asked.
const TOGETHER: usize = 64;

/// For authors of transports: the messages *in doubt*, by their ids with the transport.
///
/// Each is counted before it is tried. At first they are tried together, so that whoever comes back after a death works at
/// full speed; what has an attempt already is tried alone. So of a message that kills its process again and again, no other
/// loses more than one attempt.
#[derive(Debug)]
pub struct Trials<I> {
    /// Waiting, none of their attempts counted.
    doubtful: BTreeSet<I>,
    /// Waiting, and to be tried alone.
    suspects: BTreeSet<I>,
    tried: BTreeSet<I>,
    /// What is being tried is a suspect.
    is_alone: bool,
    /// When the last trial began.
    since: Option<Instant>,
    /// A message has but one attempt: tried together, each would count as the culprit.
    tries_once: bool,
}

impl<I: Copy + Ord> Trials<I> {
    /// For a subscription with so many attempts ([`Subscribe::attempts_max`](crate::Subscribe)).
    #[must_use]
    pub fn new(attempts_max: Option<u32>) -> Self {
        Self {
            doubtful: BTreeSet::new(),
            suspects: BTreeSet::new(),
            tried: BTreeSet::new(),
            is_alone: false,
            since: None,
            // The first is made in any case.
            tries_once: attempts_max.is_some_and(|max| max <= 1),
        }
    }
    /// A message waits to be tried, of which so many attempts are counted.
    pub fn doubt(&mut self, id: I, attempts: u32) {
        if attempts == 0 && !self.tries_once {
            self.doubtful.insert(id);
        } else {
            self.suspects.insert(id);
        }
    }
    /// Takes the next that is to be counted and tried now, of those that may be.
    pub fn begin(&mut self, may: impl Fn(&I) -> bool) -> Option<I> {
        let now = Instant::now();
        if self.since.is_some_and(|since| since + TRIAL <= now) {
            self.tried.clear();
        }
        let suspect = self.suspects.iter().copied().find(|id| may(id));
        let next = match suspect {
            Some(_) if !self.tried.is_empty() => return None,
            Some(suspect) => suspect,
            None if self.has_room() => self.doubtful.iter().copied().find(|id| may(id))?,
            None => return None,
        };
        self.forget(next);
        self.tried.insert(next);
        (self.is_alone, self.since) = (suspect.is_some(), Some(now));
        Some(next)
    }
    fn has_room(&self) -> bool {
        self.tried.is_empty() || !self.is_alone && self.tried.len() < TOGETHER
    }
    /// A trial is over: the message has killed nobody.
    pub fn end(&mut self, id: I) {
        self.tried.remove(&id);
    }
    /// A message is neither tried nor waiting any more.
    pub fn forget(&mut self, id: I) {
        self.doubtful.remove(&id);
        self.suspects.remove(&id);
        self.tried.remove(&id);
    }
    /// The same, for all but these.
    pub fn retain(&mut self, keep: impl Fn(&I) -> bool) {
        self.doubtful.retain(&keep);
        self.suspects.retain(&keep);
        self.tried.retain(&keep);
    }
    /// Whether messages wait to be tried.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.doubtful.is_empty() || !self.suspects.is_empty()
    }
    /// When those that wait for what is being tried wait no longer.
    #[must_use]
    pub fn over_by(&self) -> Option<Instant> {
        let is_waited_for = !self.tried.is_empty() && self.has_waiting();
        self.since.filter(|_| is_waited_for).map(|since| since + TRIAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(trials: &mut Trials<u32>) -> Vec<u32> {
        std::iter::from_fn(|| trials.begin(|_| true)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_tried_together_once_and_then_each_alone() {
        let mut trials = Trials::new(Some(8));
        for id in [3, 1, 2] {
            trials.doubt(id, 0);
        }
        assert_eq!(begin(&mut trials), [1, 2, 3]);
        assert_eq!(trials.over_by(), None, "nobody waits");
        // What has been tried waits for what is being tried, and is not joined by others.
        trials.doubt(4, 1);
        trials.doubt(5, 1);
        trials.doubt(6, 0);
        assert!(begin(&mut trials).is_empty());
        for id in [1, 2, 3] {
            trials.end(id);
        }
        assert_eq!(begin(&mut trials), [4]);
        trials.end(4);
        assert_eq!(begin(&mut trials), [5]);
        trials.end(5);
        assert_eq!(begin(&mut trials), [6]);
        trials.end(6);
        assert!(!trials.has_waiting());
    }

    #[tokio::test(start_paused = true)]
    async fn with_one_attempt_each_is_tried_alone() {
        for attempts_max in [0, 1] {
            let mut trials = Trials::new(Some(attempts_max));
            trials.doubt(1, 0);
            trials.doubt(2, 0);
            assert_eq!(begin(&mut trials), [1]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_trial_keeps_others_waiting_for_ever() {
        let mut trials = Trials::new(None);
        trials.doubt(1, 1);
        trials.doubt(2, 1);
        assert_eq!(begin(&mut trials), [1]);
        tokio::time::sleep_until(trials.over_by().unwrap()).await;
        assert_eq!(begin(&mut trials), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_tried_together_and_those_that_may_not_be_are_passed() {
        let mut trials = Trials::new(None);
        for id in 0..100 {
            trials.doubt(id, 0);
        }
        trials.doubt(100, 1);
        assert_eq!(trials.begin(|id| *id > 60 && *id < 100), Some(61));
        trials.retain(|id| *id < 100);
        assert_eq!(begin(&mut trials).len(), TOGETHER - 1);
    }
}

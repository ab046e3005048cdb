//! What a real broker does on a bad day, on purpose and repeatably.

use std::{
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::lock;
use crate::random::{Random, fraction};

/// Faults of the in-memory transport, all off at first. Same source of randomness, same faults.
///
/// They break what a broker may break and nothing more: a message may come twice, late, after strangers, or be refused with
/// an error that says so. The order of *first* deliveries within a key stays, and nothing that was acknowledged is lost.
pub struct Faults {
    random: Box<dyn FnMut() -> u64 + Send>,
    duplicate: f64,
    delay: f64,
    late: Duration,
    reorder: f64,
    lose_ack: f64,
    ack_timeout: Duration,
    refuse: f64,
    refuse_every: Option<u64>,
    unconfirmed: f64,
    publishes: u64,
}

/// What happens to one publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PublishFault {
    None,
    Refused,
    Unconfirmed,
}

impl Faults {
    /// Draws from the caller's generator: `Faults::new(move || rng.next_u64())`.
    pub fn new(random: impl FnMut() -> u64 + Send + 'static) -> Self {
        Self {
            random: Box::new(random),
            duplicate: 0.0,
            delay: 0.0,
            late: Duration::ZERO,
            reorder: 0.0,
            lose_ack: 0.0,
            ack_timeout: Duration::from_secs(30),
            refuse: 0.0,
            refuse_every: None,
            unconfirmed: 0.0,
            publishes: 0,
        }
    }
    /// Draws from a small generator of its own (SplitMix64).
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        Self::new(move || random.next())
    }
    /// Delivers a message a second time, with this probability: while the first delivery is in flight or after it.
    #[must_use]
    pub fn duplicate(self, probability: f64) -> Self {
        Self {
            duplicate: probability,
            ..self
        }
    }
    /// Delivers a message late, with this probability and by at most so much; its key waits with it. Duplicates are as late.
    #[must_use]
    pub fn delay(self, probability: f64, late: Duration) -> Self {
        Self {
            delay: probability,
            late,
            ..self
        }
    }
    /// Lets another message that could be delivered go first, with this probability: of another key, or without one.
    #[must_use]
    pub fn reorder(self, probability: f64) -> Self {
        Self {
            reorder: probability,
            ..self
        }
    }
    /// Loses an acknowledgement, with this probability: the consumer hears that all is well, and gets the message again
    /// after this time.
    #[must_use]
    pub fn lose_ack(self, probability: f64, timeout: Duration) -> Self {
        Self {
            lose_ack: probability,
            ack_timeout: timeout,
            ..self
        }
    }
    /// Refuses to publish, with this probability: [`Error::Disconnected`](crate::Error::Disconnected), nothing is stored.
    #[must_use]
    pub fn refuse(self, probability: f64) -> Self {
        Self {
            refuse: probability,
            ..self
        }
    }
    /// Refuses each n-th publish.
    #[must_use]
    pub fn refuse_every(self, n: u64) -> Self {
        Self {
            refuse_every: Some(n.max(1)),
            ..self
        }
    }
    /// Loses the confirmation of a publish, with this probability: [`Error::Unconfirmed`](crate::Error::Unconfirmed), yet
    /// the message is there.
    #[must_use]
    pub fn unconfirmed(self, probability: f64) -> Self {
        Self {
            unconfirmed: probability,
            ..self
        }
    }

    pub(super) fn on_publish(&mut self) -> PublishFault {
        self.publishes += 1;
        let due = self.refuse_every.is_some_and(|n| self.publishes.is_multiple_of(n));
        if due || self.chance(self.refuse) {
            PublishFault::Refused
        } else if self.chance(self.unconfirmed) {
            PublishFault::Unconfirmed
        } else {
            PublishFault::None
        }
    }
    /// How late a message becomes deliverable.
    pub(super) fn on_offer(&mut self) -> Option<Duration> {
        self.chance(self.delay).then(|| self.within_late())
    }
    /// How long after this delivery the message is delivered once more.
    pub(super) fn on_delivery(&mut self) -> Option<Duration> {
        self.chance(self.duplicate).then(|| self.within_late())
    }
    /// Which of the deliverable messages goes first.
    pub(super) fn pick(&mut self, of: usize) -> usize {
        if of > 1 && self.chance(self.reorder) {
            self.below(of)
        } else {
            0
        }
    }
    /// When the message of an acknowledgement that is lost comes again.
    pub(super) fn on_ack(&mut self) -> Option<Duration> {
        self.chance(self.lose_ack).then_some(self.ack_timeout)
    }

    fn within_late(&mut self) -> Duration {
        self.late.mul_f64(self.fraction())
    }
    fn chance(&mut self, probability: f64) -> bool {
        // Nothing is drawn for a fault that is off, so that switching one on does not move the others' luck more than needed.
        probability > 0.0 && self.fraction() < probability
    }
    fn fraction(&mut self) -> f64 {
        fraction((self.random)())
    }
    fn below(&mut self, end: usize) -> usize {
        ((self.random)() % end as u64) as usize
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("duplicate", &self.duplicate)
            .field("delay", &self.delay)
            .field("reorder", &self.reorder)
            .field("lose_ack", &self.lose_ack)
            .field("refuse", &self.refuse)
            .field("refuse_every", &self.refuse_every)
            .field("unconfirmed", &self.unconfirmed)
            .finish_non_exhaustive()
    }
}

/// The broker's faults, which can be changed while it runs. Costs one load where there are none.
#[derive(Debug, Default)]
pub(super) struct Switch {
    on: AtomicBool,
    faults: Mutex<Option<Faults>>,
}

impl Switch {
    pub(super) fn set(&self, faults: Option<Faults>) {
        let mut current = lock(&self.faults);
        self.on.store(faults.is_some(), Ordering::Release);
        *current = faults;
    }
    /// Asks the faults, where there are any.
    pub(super) fn ask<T>(&self, calm: T, ask: impl FnOnce(&mut Faults) -> T) -> T {
        if !self.on.load(Ordering::Acquire) {
            return calm;
        }
        lock(&self.faults).as_mut().map_or(calm, ask)
    }
}

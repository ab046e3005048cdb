//! Where a schedule's faults come from: a seed, or a plan.

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::barrier::Call;
use crate::core::Phase;

/// How many faults a seeded schedule has at most: they are finite, so that it has to end.
const FAULTS_MAX: u32 = 14;

/// How one try of a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The participant refuses it.
    Reject,
    /// The participant says that it cannot succeed.
    Fail,
    /// The request is lost.
    LoseRequest,
    /// It is handled, and the reply is lost.
    LoseReply,
    /// The reply comes after it was asked again.
    Late,
    /// The coordinator dies once it has stored what follows from the reply, before it acknowledges it.
    Crash,
}

impl Way {
    pub(super) const ALL: [Self; 6] = [
        Self::Reject,
        Self::Fail,
        Self::LoseRequest,
        Self::LoseReply,
        Self::Late,
        Self::Crash,
    ];
}

/// One fault at one step.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) step: String,
    pub(super) phase: Phase,
    pub(super) way: Way,
}

/// Where faults come from: a seed, or a plan.
#[derive(Debug)]
pub(super) struct Faults {
    rng: Option<SmallRng>,
    left: u32,
    planned: Vec<Planned>,
    /// Somebody cancels the saga once this step is done.
    pub(super) cancel_after: Option<String>,
    /// Everything comes twice.
    pub(super) repeats: bool,
}

impl Faults {
    pub(super) fn seeded(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let left = rng.random_range(0..=FAULTS_MAX);
        Self {
            rng: Some(rng),
            left,
            planned: Vec::new(),
            cancel_after: None,
            repeats: false,
        }
    }
    pub(super) fn planned(planned: Vec<Planned>) -> Self {
        Self {
            rng: None,
            left: 0,
            planned,
            cancel_after: None,
            repeats: false,
        }
    }
    /// Somebody cancels the saga once this step is done.
    pub(super) fn cancel_after(self, step: &str) -> Self {
        Self {
            cancel_after: Some(step.to_owned()),
            ..self
        }
    }
    pub(super) fn repeat_all(self) -> Self {
        Self { repeats: true, ..self }
    }
    /// Whether this happens here, once in `of` times.
    pub(super) fn happens(&mut self, of: u32) -> bool {
        let Some(rng) = self.rng.as_mut().filter(|_| self.left > 0) else {
            return false;
        };
        let happens = rng.random_ratio(1, of);
        self.left -= u32::from(happens);
        happens
    }
    pub(super) fn is_planned(&mut self, call: &Call, undo: bool, way: Way) -> bool {
        let phase = if undo { Phase::Compensate } else { Phase::Forward };
        let fits = |planned: &Planned| *planned.step == *call.ask.step && planned.phase == phase && planned.way == way;
        let place = self.planned.iter().position(fits);
        place.map(|place| self.planned.remove(place)).is_some()
    }
    pub(super) fn below(&mut self, end: i64) -> i64 {
        self.rng.as_mut().map_or(0, |rng| rng.random_range(0..end))
    }
}

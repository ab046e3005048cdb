//! A saga's past as a person reads it, from its events alone: no definition is needed.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Entry, Summary};

/// What became of each step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Where the saga is.
    pub summary: Summary,
    /// Its steps in the order in which they were first named.
    pub steps: Vec<StepHistory>,
    index: BTreeMap<String, usize>,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepHistory {
    /// Its name.
    pub name: String,
    /// Its stage, from 0.
    pub group: u32,
    /// waiting · asked · unknown · done · rejected · not-needed · parked
    pub state: &'static str,
    /// Its tries.
    pub attempts: Vec<AttemptHistory>,
    /// none · asked · unknown · undone · nothing · parked
    pub undo_state: Option<&'static str>,
    /// The tries of its undo.
    pub undo_attempts: Vec<AttemptHistory>,
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptHistory {
    /// Which, from 1.
    pub number: u32,
    /// When it began.
    pub from: Timestamp,
    /// When it ended.
    pub to: Option<Timestamp>,
    /// asked · done · rejected · timed-out · failed
    pub outcome: &'static str,
    /// What went wrong.
    pub error: Option<String>,
}

impl History {
    /// Folds one more event in; none: the saga's first.
    pub fn fold(_history: Option<Self>, _entry: &Entry) -> Self {
        todo!()
    }
}

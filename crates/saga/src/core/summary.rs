//! A saga in one line, from its events alone: no definition is needed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Entry;

/// A saga in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// The saga's own id.
    pub instance: Uuid,
    /// The definition's name.
    pub definition: String,
    /// The definition's version.
    pub version: u32,
    /// The business key.
    pub key: String,
    /// Where it is.
    pub state: SummaryState,
    /// It goes back.
    pub unwinding: bool,
    /// The step it is at, or was last at.
    pub step: Option<String>,
    /// Why it is parked or was undone.
    pub reason: Option<String>,
    /// Steps whose effect is there although it was undone.
    pub left_behind: Vec<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// When its last event was decided.
    pub updated_at: Timestamp,
    /// How many events it has.
    pub events: i64,
}

/// Where a saga is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SummaryState {
    /// It goes on by itself.
    Running,
    /// It waits for an operator.
    Parked,
    /// Each step is done.
    Completed,
    /// What had been done has been undone.
    Compensated,
}

impl Summary {
    /// Folds one more event in; none: the saga's first.
    pub fn fold(_summary: Option<Self>, _entry: &Entry) -> Self {
        todo!()
    }
}

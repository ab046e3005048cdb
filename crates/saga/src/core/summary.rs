//! A saga in one line, from its events alone: no definition is needed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Doubt, Entry, Fact};

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
    /// It goes back, or went back.
    pub unwinding: bool,
    /// The step it is at, or was last at.
    pub step: Option<String>,
    /// Why it is parked, goes back, or was undone.
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

impl SummaryState {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Parked => "parked",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
        }
    }
}

impl std::fmt::Display for SummaryState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl Summary {
    /// Folds one more event in; none: the saga's first.
    pub fn fold(summary: Option<Self>, entry: &Entry) -> Self {
        let mut summary = summary.unwrap_or_else(|| Self::first(entry));
        summary.events += 1;
        summary.updated_at = entry.event.at;
        if let Some(ask) = entry.event.begun.last().or(entry.event.fact.ask()) {
            summary.step = Some(ask.step.to_string());
        }
        summary.take(&entry.event.fact);
        summary
    }
    fn first(entry: &Entry) -> Self {
        Self {
            instance: entry.identity.instance,
            definition: entry.identity.definition.to_string(),
            version: entry.identity.version,
            key: entry.identity.key.to_string(),
            state: SummaryState::Running,
            unwinding: false,
            step: None,
            reason: None,
            left_behind: Vec::new(),
            started_at: entry.event.at,
            updated_at: entry.event.at,
            events: 0,
        }
    }
    fn take(&mut self, fact: &Fact) {
        match fact {
            // Whether it leads back is known by the next event; after the pivot that is `saga.parked`.
            Fact::StepRejected { ask, rejection } if !self.unwinding => {
                self.reason = Some(format!(
                    "`{}` was rejected: {}",
                    ask.step,
                    String::from_utf8_lossy(rejection)
                ));
            }
            Fact::StepTimedOut {
                ask, then: Doubt::Undo, ..
            } => {
                self.turn(format!("`{}` did not answer after {} attempts", ask.step, ask.attempt));
            }
            Fact::CancelRequested { by, pending: false } => {
                self.turn(format!("cancelled by {}: {}", by.actor, by.reason));
            }
            Fact::DeadlinePassed { pending: false } => self.turn("its deadline has passed".to_owned()),
            Fact::UndoRequested(_) => self.unwinding = true,
            Fact::Parked(parked) => {
                self.state = SummaryState::Parked;
                self.reason = Some(parked.text.clone());
            }
            Fact::Resumed { .. } => {
                self.state = SummaryState::Running;
                self.reason = self.reason.take().filter(|_| self.unwinding);
            }
            Fact::Completed { finish, .. } => {
                self.state = SummaryState::Completed;
                self.reason = finish.reason.clone();
            }
            Fact::Compensated(finish) => {
                self.state = SummaryState::Compensated;
                self.unwinding = true;
                self.reason = finish.reason.clone();
                self.left_behind = finish.left_behind.clone();
            }
            _ => {}
        }
    }
    fn turn(&mut self, reason: String) {
        self.unwinding = true;
        self.state = SummaryState::Running;
        self.reason = Some(reason);
    }
}

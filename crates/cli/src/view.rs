//! How a saga looks to scripts, and the signs of its steps.

use jiff::Timestamp;
use sagamill::saga::core::{AttemptHistory, History, StepHistory, Summary, SummaryState, UndoHistory};
use serde::Serialize;

/// A saga in a list.
#[derive(Debug, Serialize)]
pub(crate) struct SagaRow<'a> {
    saga: &'a str,
    definition: &'a str,
    version: u32,
    state: SummaryState,
    step: Option<&'a str>,
    reason: Option<&'a str>,
    started_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> From<&'a Summary> for SagaRow<'a> {
    fn from(summary: &'a Summary) -> Self {
        Self {
            saga: &summary.key,
            definition: &summary.definition,
            version: summary.version,
            state: summary.state,
            step: summary.step.as_deref(),
            reason: summary.reason.as_deref(),
            started_at: summary.started_at,
            updated_at: summary.updated_at,
        }
    }
}

/// What became of a step.
#[derive(Debug, Serialize)]
pub(crate) struct StepEnd<'a> {
    name: &'a str,
    state: &'static str,
    attempts: usize,
    ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<UndoEnd>,
}

#[derive(Debug, Serialize)]
struct UndoEnd {
    state: &'static str,
    attempts: usize,
    ms: i64,
}

impl<'a> From<&'a StepHistory> for StepEnd<'a> {
    fn from(step: &'a StepHistory) -> Self {
        let undo = |undo: &UndoHistory| UndoEnd {
            state: undo.state,
            attempts: undo.attempts.len(),
            ms: span(&undo.attempts),
        };
        Self {
            name: &step.name,
            state: step.state,
            attempts: step.attempts.len(),
            ms: span(&step.attempts),
            undo: step.undo.as_ref().map(undo),
        }
    }
}

/// All of one saga, for scripts.
#[derive(Debug, Serialize)]
pub(crate) struct SagaDetail<'a> {
    #[serde(flatten)]
    row: SagaRow<'a>,
    instance: uuid::Uuid,
    unwinding: bool,
    left_behind: &'a [String],
    ms: i64,
    steps: Vec<StepDetail<'a>>,
}

#[derive(Debug, Serialize)]
struct StepDetail<'a> {
    #[serde(flatten)]
    step: StepEnd<'a>,
    tries: &'a [AttemptHistory],
    #[serde(skip_serializing_if = "Option::is_none")]
    undo_tries: Option<&'a [AttemptHistory]>,
}

impl<'a> From<&'a History> for SagaDetail<'a> {
    fn from(history: &'a History) -> Self {
        let summary = &history.summary;
        let detail = |step: &'a StepHistory| StepDetail {
            step: StepEnd::from(step),
            tries: &step.attempts,
            undo_tries: step.undo.as_ref().map(|undo| undo.attempts.as_slice()),
        };
        Self {
            row: SagaRow::from(summary),
            instance: summary.instance,
            unwinding: summary.unwinding,
            left_behind: &summary.left_behind,
            ms: millis(summary.started_at, summary.updated_at),
            steps: history.steps.iter().map(detail).collect(),
        }
    }
}
/// The sign of a step's state; none where there is nothing to show yet.
pub(crate) fn mark(state: &str) -> Option<char> {
    match state {
        "done" => Some('✓'),
        "rejected" => Some('✗'),
        "asked" => Some('…'),
        "unknown" => Some('?'),
        "parked" => Some('‖'),
        _ => None,
    }
}

/// The sign of an undo's state.
pub(crate) fn undo_mark(state: &str) -> Option<char> {
    match state {
        "undone" => Some('↩'),
        "asked" => Some('…'),
        "unknown" => Some('?'),
        "left" | "parked" => Some('‖'),
        _ => None,
    }
}

/// From the first try's begin to the last one's end.
pub(crate) fn span(attempts: &[AttemptHistory]) -> i64 {
    match (attempts.first(), attempts.iter().filter_map(|attempt| attempt.to).max()) {
        (Some(first), Some(end)) => millis(first.from, end),
        _ => 0,
    }
}

/// Whole milliseconds between two times.
pub(crate) fn millis(from: Timestamp, to: Timestamp) -> i64 {
    to.as_millisecond().saturating_sub(from.as_millisecond()).max(0)
}

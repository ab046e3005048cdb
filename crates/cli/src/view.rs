//! How a saga looks: as JSON, and on one line.

use std::fmt::Write;

use jiff::Timestamp;
use sagamill::saga::core::{AttemptHistory, History, StepHistory, Summary, SummaryState, UndoHistory};
use serde::Serialize;
use serde_json::Value;

use crate::output::plain;

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

/// A saga that has ended or was parked, for scripts.
#[derive(Debug, Serialize)]
pub(crate) struct SagaEnd<'a> {
    saga: &'a str,
    definition: &'a str,
    version: u32,
    state: SummaryState,
    steps: Vec<StepEnd<'a>>,
    ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct StepEnd<'a> {
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

impl<'a> From<&'a History> for SagaEnd<'a> {
    fn from(history: &'a History) -> Self {
        let summary = &history.summary;
        Self {
            saga: &summary.key,
            definition: &summary.definition,
            version: summary.version,
            state: summary.state,
            steps: history.steps.iter().map(StepEnd::from).collect(),
            ms: millis(summary.started_at, summary.updated_at),
            reason: summary.reason.as_deref(),
        }
    }
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
/// A saga on one line: what was done, what was not, what was undone, and how it ended.
pub(crate) fn line(history: &History) -> String {
    let summary = &history.summary;
    let mut line = plain(&summary.key);
    for step in &history.steps {
        let Some(mark) = mark(step.state) else { continue };
        let again = if step.attempts.len() > 1 {
            format!(" ×{}", step.attempts.len())
        } else {
            String::new()
        };
        write!(line, " {mark} {}{again}", plain(&step.name)).ok();
        if let Some(why) = summary.reason.as_deref().filter(|_| mark == '✗') {
            write!(line, " ({})", plain(&short(why))).ok();
        }
    }
    for step in history.steps.iter().rev() {
        if let Some(undo) = step.undo.as_ref().and_then(|undo| undo_mark(undo.state)) {
            write!(line, " {undo} {}", plain(&step.name)).ok();
        }
    }
    let ms = millis(summary.started_at, summary.updated_at);
    write!(line, " → {} {ms} ms", summary.state).ok();
    line
}

/// A rejection without what the line says already: `book` was rejected: {"carrier":"x"} becomes carrier: x.
fn short(reason: &str) -> String {
    let rejection = reason
        .split_once(" was rejected: ")
        .map_or(reason, |(_, rejection)| rejection);
    let Ok(Value::Object(fields)) = serde_json::from_str(rejection) else {
        return rejection.to_owned();
    };
    let field = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}: {text}"),
        other => format!("{name}: {other}"),
    };
    fields.iter().map(field).collect::<Vec<_>>().join(", ")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_is_shown_without_its_braces() {
        assert_eq!(
            short(r#"`book` was rejected: {"carrier":"heavy rail","tries":2}"#),
            "carrier: heavy rail, tries: 2"
        );
        assert_eq!(short("`book` was rejected: \"no\""), "\"no\"");
        assert_eq!(
            short("cancelled by ada: changed her mind"),
            "cancelled by ada: changed her mind"
        );
    }
}

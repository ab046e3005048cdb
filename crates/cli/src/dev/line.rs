//! A saga that has ended: an object, or a line for people.

use std::fmt::Write;

use sagamill::saga::core::{History, SummaryState};
use serde::Serialize;
use serde_json::Value;

use crate::{
    output::plain,
    view::{StepEnd, mark, millis, undo_mark},
};

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

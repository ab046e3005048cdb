//! Names of what this crate measures, through the [`metrics`] facade. No label holds an id.

use std::time::Duration;

use jiff::SignedDuration;
use metrics::{counter, histogram};

use crate::barrier::Verdict;
use crate::core::{Ask, Fact, NoOp, Phase, Plan, Reported, SagaEvent, State};

/// Counter: sagas started. Label `definition`.
pub const STARTED: &str = "sagamill_saga_started_total";
/// Counter: sagas that ended or were parked. Labels `definition`, `outcome` (`completed`, `compensated`, `parked`).
pub const FINISHED: &str = "sagamill_saga_finished_total";
/// Histogram, seconds: from a saga's start to its end. Labels `definition`, `outcome`.
pub const DURATION: &str = "sagamill_saga_duration_seconds";
/// Histogram, seconds: from a step's first ask to its answer, as the saga sees it. Labels `definition`, `step`, `outcome`.
pub const STEP_DURATION: &str = "sagamill_saga_step_duration_seconds";
/// Counter: asks that ended. Labels `definition`, `step`, `phase`, `outcome` (`done`, `rejected`, `timed-out`, `failed`).
pub const STEP_ATTEMPTS: &str = "sagamill_saga_step_attempts_total";
/// Histogram, seconds: how long the function of a local step ran. Labels `definition`, `step`, `phase`, `outcome`.
pub const LOCAL_DURATION: &str = "sagamill_saga_local_duration_seconds";
/// Counter: steps undone. Labels `definition`, `step`.
pub const COMPENSATIONS: &str = "sagamill_saga_compensations_total";
/// Counter: inputs that decided nothing, as a repeated reply does. Labels `definition`, `reason`.
pub const INBOX_DUPLICATES: &str = "sagamill_saga_inbox_duplicates_total";
/// Counter: appends that came second and were decided again. Label `definition`.
pub const CONFLICTS: &str = "sagamill_saga_conflicts_total";
/// Counter: sagas that could be neither loaded nor parked.
pub const BROKEN: &str = "sagamill_saga_broken_total";
/// Counter: replies that became dead letters because no saga was there for them.
pub const REPLIES_GIVEN_UP: &str = "sagamill_saga_replies_given_up_total";
/// Counter: replies that were handed back because this process does not know their saga's definition, and another may.
pub const REPLIES_LEFT: &str = "sagamill_saga_replies_left_total";
/// Counter: commands answered by participants of this process. Labels `command`, `phase`, `outcome` (`done`, `rejected`,
/// `expired`, `failed`).
pub const COMMANDS_ANSWERED: &str = "sagamill_saga_commands_answered_total";

/// An event is durable.
pub(crate) fn decided(plan: &Plan, next: &State, event: &SagaEvent) {
    let definition = || plan.name.to_string();
    let attempt = |ask: &Ask, outcome: &'static str| {
        let (step, phase) = (ask.step.to_string(), ask.phase.as_str());
        counter!(STEP_ATTEMPTS, "definition" => definition(), "step" => step, "phase" => phase, "outcome" => outcome)
            .increment(1);
    };
    let answered = |ask: &Ask, outcome: &'static str| {
        attempt(ask, outcome);
        let asked = plan.index(&ask.step).and_then(|index| next.steps[index].first_asked);
        if let Some(asked) = asked {
            let step = ask.step.to_string();
            histogram!(STEP_DURATION, "definition" => definition(), "step" => step, "outcome" => outcome)
                .record(seconds(event.at.duration_since(asked)));
        }
    };
    let finished = |outcome: &'static str| {
        counter!(FINISHED, "definition" => definition(), "outcome" => outcome).increment(1);
        histogram!(DURATION, "definition" => definition(), "outcome" => outcome)
            .record(seconds(event.at.duration_since(next.started_at)));
    };
    match &event.fact {
        Fact::Started { .. } => counter!(STARTED, "definition" => definition()).increment(1),
        Fact::StepDone { ask, .. } => answered(ask, "done"),
        Fact::StepRejected { ask, .. } => answered(ask, "rejected"),
        Fact::StepTimedOut { ask, .. } => attempt(ask, "timed-out"),
        Fact::UndoFailed { ask, .. } => attempt(ask, "failed"),
        Fact::UndoDone { ask } => {
            attempt(ask, "done");
            counter!(COMPENSATIONS, "definition" => definition(), "step" => ask.step.to_string()).increment(1);
        }
        Fact::Completed { last, .. } => {
            if let Some((ask, _)) = last {
                answered(ask, "done");
            }
            finished("completed");
        }
        Fact::Compensated(_) => finished("compensated"),
        Fact::Parked(_) => finished("parked"),
        _ => {}
    }
}

/// A saga was parked by a process that does not know its definition.
pub(crate) fn parked(definition: &str) {
    counter!(FINISHED, "definition" => definition.to_owned(), "outcome" => "parked").increment(1);
}

pub(crate) fn noops(plan: &Plan, noops: &[(usize, NoOp)]) {
    for (_, noop) in noops {
        let reason = match noop {
            NoOp::Ended => "ended",
            NoOp::Stale => "stale",
            NoOp::UnknownStep => "unknown-step",
            _ => "other",
        };
        counter!(INBOX_DUPLICATES, "definition" => plan.name.to_string(), "reason" => reason).increment(1);
    }
}

pub(crate) fn conflict(definition: &str) {
    counter!(CONFLICTS, "definition" => definition.to_owned()).increment(1);
}

pub(crate) fn broken(stream: &str, error: &str) {
    tracing::error!(stream, error, "a saga cannot be loaded here; the others go on");
    counter!(BROKEN).increment(1);
}

pub(crate) fn reply_given_up() {
    counter!(REPLIES_GIVEN_UP).increment(1);
}

pub(crate) fn reply_left() {
    counter!(REPLIES_LEFT).increment(1);
}

pub(crate) fn local_step(definition: &str, ask: &Ask, reported: &Reported, took: Duration) {
    let outcome = match reported {
        Reported::Done(_) => "done",
        Reported::Rejected(_) => "rejected",
        Reported::Failed(_) => "failed",
        _ => "unknown",
    };
    let (definition, step) = (definition.to_owned(), ask.step.to_string());
    let phase = ask.phase.as_str();
    histogram!(LOCAL_DURATION, "definition" => definition, "step" => step, "phase" => phase, "outcome" => outcome)
        .record(took);
}

pub(crate) fn command_answered(command: &str, phase: Phase, verdict: &Verdict) {
    let outcome = match verdict {
        Verdict::Done(_) => "done",
        Verdict::Rejected(_) => "rejected",
        Verdict::Expired => "expired",
        Verdict::Failed(_) => "failed",
        Verdict::Busy(_) => "busy",
    };
    counter!(COMMANDS_ANSWERED, "command" => command.to_owned(), "phase" => phase.as_str(), "outcome" => outcome)
        .increment(1);
}

fn seconds(span: SignedDuration) -> f64 {
    span.as_secs_f64().max(0.0)
}

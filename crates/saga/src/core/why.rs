//! Why a saga is where it is, in one sentence.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Direction, Fact, ParkReason, Parked, Phase, Plan, State, Status, StepKind, StepStatus, UndoPlan, apply::NO_ANSWER,
};

/// Why a saga is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// In a few words.
    pub head: String,
    /// In one sentence.
    pub text: String,
    /// Who has to move: a service, `this process`, `you`, or `nobody`.
    pub next: String,
}

/// Says why a saga is where it is.
pub fn why(plan: &Plan, state: &State, now: Timestamp) -> Why {
    match &state.status {
        Status::New => Why::new("not started", "it has no event yet".into(), "nobody"),
        Status::Completed => Why::new("completed", completed(plan, state), "nobody"),
        Status::Compensated { left_behind } => Why::new("compensated", compensated(state, left_behind), "nobody"),
        Status::Parked(parked) => Why::new("parked", self::parked(state, parked), "you"),
        Status::Running => running(plan, state, now),
    }
}

impl Why {
    fn new(head: &str, text: String, next: &str) -> Self {
        Self {
            head: head.to_owned(),
            text,
            next: next.to_owned(),
        }
    }
}

fn completed(plan: &Plan, state: &State) -> String {
    let skipped = state
        .steps
        .iter()
        .filter(|step| step.status == StepStatus::Skipped)
        .count();
    let done = plan.steps.len() - skipped;
    match skipped {
        0 => format!("each of its {done} steps is done"),
        _ => format!(
            "{done} of its {} steps are done, the others were not needed",
            plan.steps.len()
        ),
    }
}

fn compensated(state: &State, left_behind: &[String]) -> String {
    let Direction::Unwind { reason } = &state.direction else {
        return "what had been done has been undone".to_owned();
    };
    match left_behind {
        [] => format!("what had been done has been undone, because {reason}"),
        left => format!(
            "it was undone, because {reason}; the effect of {} is still there",
            names(left)
        ),
    }
}

fn names(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(" and ")
}

fn parked(state: &State, parked: &Parked) -> String {
    let at = parked.ask.as_ref().map(|ask| &*ask.step);
    let stuck = |(name, step): (&Arc<str>, &super::StepState)| {
        (step.status == StepStatus::UndoStuck && at != Some(&**name)).then(|| name.to_string())
    };
    let also: Vec<_> = state.names.iter().zip(&state.steps).filter_map(stuck).collect();
    let way = match parked.reason {
        ParkReason::Rejected => "resume it to try again, or skip the step",
        ParkReason::PastRetention => "look after the effect yourself, then skip the step",
        ParkReason::CodeChanged => "register the old code under its version and the new one under the next",
        ParkReason::UnknownDefinition => "start a process that registers its definition",
        ParkReason::InDoubt | ParkReason::Failed | ParkReason::Unreadable | ParkReason::Operator => {
            "resume it when the cause is gone"
        }
    };
    match &*also {
        [] => format!("{}; {way}", parked.text),
        also => format!("{}, and so do {}; {way}", parked.text, names(also)),
    }
}

fn running(plan: &Plan, state: &State, now: Timestamp) -> Why {
    let waits = |index: &usize| {
        let live = state.is_live(&plan.steps[*index]);
        match state.steps[*index].status {
            StepStatus::Asked { .. } | StepStatus::Unknown { .. } | StepStatus::Doubtful => live,
            StepStatus::Undoing { .. } | StepStatus::UndoUnknown { .. } => true,
            _ => false,
        }
    };
    let waiting: Vec<_> = (0..plan.steps.len()).filter(waits).collect();
    let Some(first) = waiting.first() else {
        return Why::new("running", "it is between two steps".to_owned(), "this process");
    };
    let mut why = waits_at(plan, state, *first, now);
    if waiting.len() > 1 {
        why.text = format!("{}, and {} more beside it", why.text, waiting.len() - 1);
    }
    if let Direction::Unwind { reason } = &state.direction {
        why.head = "undoing".to_owned();
        why.text = format!("{}; it goes back, because {reason}", why.text);
    } else if let Some(cancel) = &state.cancel_pending {
        why.text = format!("{}; {cancel}, which acts only if the pivot is rejected", why.text);
    } else if state.deadline_passed {
        why.text = format!(
            "{}; its deadline has passed, which acts only if the pivot is rejected",
            why.text
        );
    }
    why
}

fn waits_at(plan: &Plan, state: &State, index: usize, now: Timestamp) -> Why {
    let (step, at) = (&plan.steps[index], &state.steps[index]);
    let name = &state.names[index];
    let (phase, attempt) = match at.status {
        StepStatus::Undoing { .. } | StepStatus::UndoUnknown { .. } => (Phase::Compensate, at.undo_attempt),
        _ => (Phase::Forward, at.attempt),
    };
    let who = who(step, phase);
    let what = match phase {
        Phase::Forward => format!("`{name}`"),
        Phase::Compensate => format!("the undo of `{name}`"),
    };
    let gave = gave(at.error.as_deref());
    match at.status {
        StepStatus::Unknown { next } | StepStatus::UndoUnknown { next } => {
            let wait = seconds(next.as_millisecond() - now.as_millisecond());
            let text = format!("{what} {gave} on attempt {attempt}, so it is asked again {wait}");
            Why::new("in doubt", text, &who)
        }
        _ if who == "this process" => Why::new("running", format!("it runs {what}, attempt {attempt}"), &who),
        _ => Why::new(
            "waiting",
            format!("{what} waits for an answer of {who}, attempt {attempt}"),
            &who,
        ),
    }
}

/// An error tells nothing of an effect, no more than silence does.
fn gave(error: Option<&str>) -> String {
    match error {
        None | Some(NO_ANSWER) => "did not answer in time".to_owned(),
        Some(error) => format!("gave an error ({error})"),
    }
}

fn who(step: &super::StepPlan, phase: Phase) -> String {
    let command = match (phase, &step.kind, &step.undo) {
        (Phase::Compensate, _, UndoPlan::Command { command, .. }) => *command,
        (Phase::Forward, StepKind::Call { command, .. }, _) => *command,
        (Phase::Compensate, StepKind::Call { command, .. }, UndoPlan::Participant) => *command,
        _ => return "this process".to_owned(),
    };
    command
        .split_once('.')
        .map_or(command, |(service, _)| service)
        .to_owned()
}

fn seconds(ms: i64) -> String {
    match ms {
        ..=0 => "now".to_owned(),
        1..=999 => format!("in {ms} ms"),
        _ => format!("in {} s", (ms + 500) / 1000),
    }
}

impl Fact {
    /// What happened, for a person to read.
    pub fn describe(&self) -> String {
        let step = self.ask().map(|ask| (&ask.step, ask.attempt));
        match (self, step) {
            (Self::StepRequested(_), Some((step, 1))) => format!("`{step}` is asked"),
            (Self::StepRequested(_), Some((step, n))) => format!("`{step}` is asked again, attempt {n}"),
            (Self::StepWaiting { .. }, Some((step, _))) => format!("`{step}` waits"),
            (Self::StepDone { .. }, Some((step, _))) => format!("`{step}` is done"),
            (Self::StepRejected { rejection, .. }, Some((step, _))) => {
                format!("`{step}` is rejected: {}", String::from_utf8_lossy(rejection))
            }
            (Self::StepTimedOut { error, .. }, Some((step, n))) => {
                format!("`{step}` {} on attempt {n}", gave(error.as_deref()))
            }
            (Self::StepSkipped { by: None, .. }, Some((step, _))) => format!("`{step}` is not needed"),
            (Self::StepSkipped { by: Some((by, _)), .. }, Some((step, _))) => {
                format!("{} skips `{step}`: {}", by.actor, by.reason)
            }
            (Self::UndoRequested(_), Some((step, 1))) => format!("the undo of `{step}` is asked"),
            (Self::UndoRequested(_), Some((step, n))) => format!("the undo of `{step}` is asked again, attempt {n}"),
            (Self::UndoDone { .. }, Some((step, _))) => format!("`{step}` is undone"),
            (Self::UndoFailed { error, .. }, Some((step, n))) => {
                format!("the undo of `{step}` {} on attempt {n}", gave(Some(error)))
            }
            (Self::UndoSkipped { by, .. }, Some((step, _))) => {
                format!("{} leaves the effect of `{step}` where it is: {}", by.actor, by.reason)
            }
            (Self::CancelRequested { by, .. }, _) => format!("{} cancels it: {}", by.actor, by.reason),
            (Self::DeadlinePassed { .. }, _) => "its deadline has passed".to_owned(),
            (Self::Parked(parked), _) => format!("parked: {}", parked.text),
            (Self::Resumed { by }, _) => format!("{} resumes it: {}", by.actor, by.reason),
            (Self::Completed { .. }, Some((step, _))) => format!("`{step}` is done, and with it the saga"),
            (Self::Completed { .. }, None) => "the saga is completed".to_owned(),
            (Self::Compensated(finish), _) => match &finish.reason {
                Some(reason) => format!("the saga is undone, because {reason}"),
                None => "the saga is undone".to_owned(),
            },
            (Self::Aux { name }, _) => format!("`{name}`, which only a newer library can read"),
            (Self::Started { .. }, _) | (_, None) => "the saga is started".to_owned(),
        }
    }
}

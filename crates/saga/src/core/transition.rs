//! The table: which event may follow which state of a step, and of the saga.

use super::{Doubt, Fact, Phase, State, Status, StepStatus};

/// An event that cannot follow the state it stands after: the stream is damaged, or another library wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{event}` cannot follow {state}")]
pub struct IllegalTransition {
    /// The event's name.
    pub event: &'static str,
    /// Where the saga, or its step, was.
    pub state: String,
}

/// Where a step is after an event about it. None: the event cannot follow.
pub(super) fn step_after(status: StepStatus, fact: &Fact) -> Option<StepStatus> {
    use StepStatus::{
        Asked, Done, Doubtful, Left, Overridden, Rejected, Skipped, UndoStuck, UndoUnknown, Undoing, Undone, Unknown,
        Waiting,
    };
    Some(match (status, fact) {
        (Waiting | Asked { .. } | Unknown { .. } | Doubtful | Rejected, Fact::StepRequested(request)) => {
            Asked { due: Some(request.due) }
        }
        (Waiting, Fact::StepWaiting { until, .. }) => Asked { due: *until },
        (Waiting, Fact::StepSkipped { by: None, .. }) => Skipped,
        (Asked { .. } | Unknown { .. } | Doubtful, Fact::StepDone { .. } | Fact::Completed { .. }) => Done,
        (Asked { .. } | Unknown { .. } | Doubtful, Fact::StepRejected { .. }) => Rejected,
        (Asked { .. } | Unknown { .. }, Fact::StepTimedOut { then, .. }) => match then {
            Doubt::Ask(next) => Unknown { next: *next },
            Doubt::Undo | Doubt::Park => Doubtful,
        },
        (Asked { .. } | Unknown { .. } | Doubtful | Rejected, Fact::StepSkipped { by: Some(_), .. }) => Overridden,
        (
            Asked { .. }
            | Unknown { .. }
            | Doubtful
            | Done
            | Overridden
            | Undoing { .. }
            | UndoUnknown { .. }
            | UndoStuck,
            Fact::UndoRequested(request),
        ) => Undoing { due: Some(request.due) },
        (Undoing { .. } | UndoUnknown { .. } | UndoStuck, Fact::UndoDone { .. }) => Undone,
        (Undoing { .. } | UndoUnknown { .. }, Fact::UndoFailed { next, .. }) => match next {
            Some(next) => UndoUnknown { next: *next },
            None => UndoStuck,
        },
        (
            Asked { .. } | Unknown { .. } | Doubtful | Undoing { .. } | UndoUnknown { .. } | UndoStuck,
            Fact::UndoSkipped { .. },
        ) => Left,
        (_, Fact::Parked(parked)) => match (parked.ask.as_ref()?.phase, status) {
            (Phase::Forward, Asked { .. } | Unknown { .. }) => Doubtful,
            (Phase::Forward, Waiting | Doubtful | Rejected) => status,
            (Phase::Compensate, Asked { .. } | Unknown { .. } | Doubtful | Done | Overridden) => UndoStuck,
            (Phase::Compensate, Undoing { .. } | UndoUnknown { .. } | UndoStuck) => UndoStuck,
            _ => return None,
        },
        _ => return None,
    })
}

/// Where a local step is once an event has made it, or its undo, the next to run.
pub(super) fn step_begun(status: StepStatus, phase: Phase) -> Option<StepStatus> {
    use StepStatus::{Asked, Done, Doubtful, Overridden, Rejected, UndoStuck, UndoUnknown, Undoing, Unknown, Waiting};
    Some(match (phase, status) {
        (Phase::Forward, Waiting | Unknown { .. } | Doubtful | Rejected) => Asked { due: None },
        (
            Phase::Compensate,
            Asked { .. } | Unknown { .. } | Doubtful | Done | Overridden | UndoUnknown { .. } | UndoStuck,
        ) => Undoing { due: None },
        _ => return None,
    })
}

/// Whether the saga, as a whole, can have this event now.
pub(super) fn saga_allows(state: &State, fact: &Fact) -> bool {
    let forward = !state.is_unwinding();
    match (&state.status, fact) {
        (Status::New, fact) => matches!(fact, Fact::Started { .. }),
        (_, Fact::Aux { .. }) => true,
        (Status::Completed | Status::Compensated { .. }, _) | (_, Fact::Started { .. }) => false,
        (Status::Running, Fact::StepRequested(request)) => forward || request.ask.attempt > 1,
        (Status::Running, Fact::StepWaiting { .. } | Fact::StepSkipped { by: None, .. } | Fact::Completed { .. }) => {
            forward
        }
        (Status::Running, Fact::UndoRequested(_) | Fact::Compensated(_)) => !forward,
        (_, Fact::CancelRequested { pending: false, .. } | Fact::DeadlinePassed { pending: false }) => forward,
        (_, Fact::UndoDone { .. } | Fact::UndoFailed { .. } | Fact::UndoSkipped { .. }) => !forward,
        (Status::Running, Fact::Parked(_)) => true,
        (
            Status::Running | Status::Parked(_),
            Fact::StepDone { .. }
            | Fact::StepRejected { .. }
            | Fact::StepTimedOut { .. }
            | Fact::StepSkipped { by: Some(_), .. }
            | Fact::CancelRequested { .. }
            | Fact::DeadlinePassed { .. }
            | Fact::Resumed { .. },
        ) => true,
        (
            Status::Parked(_),
            Fact::StepRequested(_)
            | Fact::StepWaiting { .. }
            | Fact::StepSkipped { by: None, .. }
            | Fact::UndoRequested(_)
            | Fact::Parked(_)
            | Fact::Completed { .. }
            | Fact::Compensated(_),
        ) => false,
    }
}

//! What happens to a saga: the vocabulary of its stream.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Which saga: the same in each of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The saga's own id: one per instance, not the business key.
    pub instance: Uuid,
    /// The definition's name.
    pub definition: Arc<str>,
    /// The definition's version.
    pub version: u32,
    /// The business key.
    pub key: Arc<str>,
}

impl Identity {
    /// The saga's stream.
    pub fn stream(&self) -> String {
        crate::wire::stream(&self.definition, &self.key)
    }
}

/// A step's own phase, or that of its undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The step itself.
    Forward,
    /// Its undo.
    Compensate,
}

impl Phase {
    /// As it travels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forward => crate::wire::FORWARD,
            Self::Compensate => crate::wire::COMPENSATE,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names one ask of one step. All but `attempt` is the same when it is asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The step's name.
    pub step: Arc<str>,
    /// The step itself, or its undo.
    pub phase: Phase,
    /// The step's stage, from 0.
    pub group: u32,
    /// Which run of a repeated step, from 1.
    pub iteration: u32,
    /// Counts up where a step is tried anew after a rejection, from 1.
    pub round: u32,
    /// Which ask of this effect, from 1.
    pub attempt: u32,
    /// The key of the barrier: made at the first ask, stored, and never made again.
    pub effect: Uuid,
}

/// A phase of a local step that an event makes the next to run. It has no event of its own: this is its request.
pub type Begun = Ask;

/// What is asked: a command as it travels. Stored at the first ask; later asks send the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The command's name.
    pub command: Arc<str>,
    /// The command's schema version.
    pub version: u16,
    /// The message key, where the command has its own; none: the saga's key.
    pub key: Option<String>,
    /// The command as JSON.
    pub payload: Bytes,
}

/// A command or an undo on its way to a participant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which ask.
    pub ask: Ask,
    /// What travels.
    pub content: Content,
    /// The phase that travels. An undo by another command is, for its participant, a command like any other, under an
    /// effect id of its own: it travels as `Forward`.
    pub travels_as: Phase,
    /// Where the reply goes.
    pub reply_to: String,
    /// When an answer is late.
    pub due: Timestamp,
    /// After this the participant leaves it undone and answers that it came too late.
    pub expires: Timestamp,
    /// The policy in force.
    pub policy: String,
}

/// Who wants something, and why: on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// A person or a process.
    pub actor: String,
    /// In his own words.
    pub reason: String,
}

impl By {
    /// The library itself, where nobody asked for it.
    pub(crate) fn system(reason: &str) -> Self {
        Self {
            actor: "sagamill".to_owned(),
            reason: reason.to_owned(),
        }
    }
}

/// What follows a step that did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doubt {
    /// It is asked again at this time.
    Ask(Timestamp),
    /// The saga is unwound.
    Undo,
    /// The saga is parked.
    Park,
}

/// Why a saga waits for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ParkReason {
    /// A step's attempts are used up, and it cannot be learnt whether it took effect.
    InDoubt,
    /// A step after the pivot was rejected, where there is no way back.
    Rejected,
    /// A step or an undo cannot succeed.
    Failed,
    /// The participant may have forgotten the effect: asking again could do it twice.
    PastRetention,
    /// A reply, or the state, does not fit its type.
    Unreadable,
    /// The definition's code makes another state of the same events.
    CodeChanged,
    /// No process knows the definition.
    UnknownDefinition,
    /// Somebody asked for it.
    Operator,
}

impl ParkReason {
    /// Whether the answer of the step that parked it takes the reason away.
    pub(crate) fn ends_with_an_answer(self) -> bool {
        matches!(
            self,
            Self::InDoubt | Self::Failed | Self::PastRetention | Self::Unreadable
        )
    }
}

/// That a saga waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The step that it waits at, if it is one.
    pub ask: Option<Ask>,
    /// What kind of reason.
    pub reason: ParkReason,
    /// The reason for a person to read.
    pub text: String,
}

/// How a saga ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Finish {
    /// Why: of a compensated saga what it was undone for.
    pub reason: Option<String>,
    /// Steps whose effect is there although the saga was undone.
    pub left_behind: Vec<String>,
}

/// One event of a saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SagaEvent {
    /// When it was decided, in whole milliseconds, by the clock of the process that decided.
    pub at: Timestamp,
    /// The hash of the saga's memory after it, where it changes that.
    pub hash: Option<u64>,
    /// The local steps and undos that it makes the next to run.
    pub begun: Vec<Begun>,
    /// What happened.
    pub fact: Fact,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// The saga exists.
    Started {
        /// The saga's own id, made from the id of this event.
        instance: Uuid,
        /// The state it starts with, JSON.
        input: Bytes,
        /// The definition's digest.
        digest: u64,
        /// When it will be undone if it is not past its pivot.
        deadline: Option<Timestamp>,
    },
    /// A participant is asked.
    StepRequested(Request),
    /// A wait began: for a signal, or for a time.
    StepWaiting {
        /// Which step.
        ask: Ask,
        /// When it ends by itself.
        until: Option<Timestamp>,
    },
    /// The effect is there.
    StepDone {
        /// Which ask was answered.
        ask: Ask,
        /// The reply, JSON.
        reply: Bytes,
    },
    /// Refused: proof that nothing was changed.
    StepRejected {
        /// Which ask was answered.
        ask: Ask,
        /// The rejection, JSON.
        rejection: Bytes,
    },
    /// No answer, or an error in place of one: it is not known whether the effect is there.
    StepTimedOut {
        /// Which ask.
        ask: Ask,
        /// The error, where there was one.
        error: Option<String>,
        /// What follows.
        then: Doubt,
    },
    /// The step is not needed (its condition is false), or an operator skips it.
    StepSkipped {
        /// Which step; its `effect` is nil where it was never asked.
        ask: Ask,
        /// Who skips it, and with which reply; none: its condition is false.
        by: Option<(By, Bytes)>,
    },
    /// A participant is asked to undo.
    UndoRequested(Request),
    /// The effect is gone, or never was.
    UndoDone {
        /// Which ask was answered.
        ask: Ask,
    },
    /// No answer to an undo, or an error.
    UndoFailed {
        /// Which ask.
        ask: Ask,
        /// What went wrong.
        error: String,
        /// When it is asked again; none: it cannot succeed.
        next: Option<Timestamp>,
    },
    /// An operator leaves the effect where it is.
    UndoSkipped {
        /// Which step.
        ask: Ask,
        /// Who.
        by: By,
    },
    /// Somebody wants it undone.
    CancelRequested {
        /// Who.
        by: By,
        /// Past the point of no return: it acts only if the pivot is rejected.
        pending: bool,
    },
    /// The saga took too long.
    DeadlinePassed {
        /// Past the point of no return: it acts only if the pivot is rejected.
        pending: bool,
    },
    /// It waits for an operator.
    Parked(Parked),
    /// It goes on.
    Resumed {
        /// Who.
        by: By,
    },
    /// Each step is done. The reply that ended the last one is folded in, so that there is no event of its own for it.
    Completed {
        /// The last step's ask and its reply, JSON.
        last: Option<(Ask, Bytes)>,
        /// More about the end.
        finish: Finish,
    },
    /// What had been done has been undone.
    Compensated(Finish),
    /// A fact of a newer library, which has marked it as one that an older may pass over: it changes nothing. Never written
    /// here.
    Aux {
        /// Its name in the log.
        name: String,
    },
}

impl Fact {
    /// Its name in the log; of a fact that is passed over, one word for all.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "saga.started",
            Self::StepRequested(_) => "saga.step-requested",
            Self::StepWaiting { .. } => "saga.step-waiting",
            Self::StepDone { .. } => "saga.step-done",
            Self::StepRejected { .. } => "saga.step-rejected",
            Self::StepTimedOut { .. } => "saga.step-timed-out",
            Self::StepSkipped { .. } => "saga.step-skipped",
            Self::UndoRequested(_) => "saga.undo-requested",
            Self::UndoDone { .. } => "saga.undo-done",
            Self::UndoFailed { .. } => "saga.undo-failed",
            Self::UndoSkipped { .. } => "saga.undo-skipped",
            Self::CancelRequested { .. } => "saga.cancel-requested",
            Self::DeadlinePassed { .. } => "saga.deadline-passed",
            Self::Parked(_) => "saga.parked",
            Self::Resumed { .. } => "saga.resumed",
            Self::Completed { .. } => "saga.completed",
            Self::Compensated(_) => "saga.compensated",
            Self::Aux { .. } => "saga.aux",
        }
    }
    /// The ask it is about.
    pub fn ask(&self) -> Option<&Ask> {
        match self {
            Self::StepRequested(request) | Self::UndoRequested(request) => Some(&request.ask),
            Self::StepWaiting { ask, .. }
            | Self::StepDone { ask, .. }
            | Self::StepRejected { ask, .. }
            | Self::StepTimedOut { ask, .. }
            | Self::StepSkipped { ask, .. }
            | Self::UndoDone { ask }
            | Self::UndoFailed { ask, .. }
            | Self::UndoSkipped { ask, .. } => Some(ask),
            Self::Parked(parked) => parked.ask.as_ref(),
            Self::Completed { last, .. } => last.as_ref().map(|(ask, _)| ask),
            Self::Started { .. }
            | Self::CancelRequested { .. }
            | Self::DeadlinePassed { .. }
            | Self::Resumed { .. }
            | Self::Compensated(_)
            | Self::Aux { .. } => None,
        }
    }
}

//! What a saga is told: all that its decisions depend on, times and ids included.

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Ask, By, ParkReason, Phase};

/// One input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What brought it: the id of the message, or one made for it. The ids of the events that follow are derived from it,
    /// so an input that is given twice must bring the same one.
    pub cause: Uuid,
    /// The time of the decision.
    pub now: Timestamp,
    /// What it says.
    pub kind: InputKind,
}

/// What an input says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputKind {
    /// Start, with this state as JSON.
    Start {
        /// The state.
        input: Bytes,
    },
    /// A participant, or a local step's function, has answered.
    Answer {
        /// Which ask, as the answer echoes it.
        ask: Ask,
        /// What.
        reported: Reported,
    },
    /// A timer is due.
    TimerFired {
        /// Whose.
        step: String,
        /// The step itself, or its undo.
        phase: Phase,
        /// After which ask.
        attempt: u32,
        /// When it was due.
        due: Timestamp,
    },
    /// The saga's deadline is due.
    DeadlineFired,
    /// Undo it, unless it is past its point of no return.
    Cancel {
        /// Who.
        by: By,
        /// The version of the stream that he saw, if he names one.
        seen: Option<i64>,
    },
    /// Go on where it is parked; where it is not, ask at once what waits for its next try.
    Resume {
        /// Who.
        by: By,
        /// The version of the stream that he saw, if he names one.
        seen: Option<i64>,
    },
    /// Take a step for done, with this reply; or leave an effect that cannot be undone where it is.
    Skip {
        /// Which step.
        step: String,
        /// The step itself, or its undo.
        phase: Phase,
        /// The reply to go on with, JSON; of an undo there is none.
        reply: Bytes,
        /// Who.
        by: By,
        /// The version of the stream that he saw, if he names one.
        seen: Option<i64>,
    },
    /// A process that knows its definition looks at it: go on where it is parked because none did.
    DefinitionKnown,
    /// Park it.
    Park {
        /// What kind of reason.
        reason: ParkReason,
        /// The reason for a person to read.
        text: String,
    },
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reported {
    /// Done, with this reply as JSON; of an undo: undone, or never was.
    Done(Bytes),
    /// Refused, which proves that nothing was changed; the rejection as JSON.
    Rejected(Bytes),
    /// Came too late and was left undone: ask again.
    Expired,
    /// It cannot succeed.
    Failed(String),
    /// It is not known whether there is an effect: a local function gave an error that may pass, or took too long.
    Unknown(String),
}

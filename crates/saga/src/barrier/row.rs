//! One row of the barrier.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::core::Phase;

/// How far the effect is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Begun outside the database, by an owner, under a lease: it may have happened.
    Started,
    /// It is there; of an undo: it is undone.
    Done,
    /// Refused without effect.
    Rejected,
    /// Its undo came first.
    Tombstone,
    /// It was there and is undone.
    Undone,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl State {
    const ALL: [Self; 5] = [Self::Started, Self::Done, Self::Rejected, Self::Tombstone, Self::Undone];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Done => "done",
            Self::Rejected => "rejected",
            Self::Tombstone => "tombstone",
            Self::Undone => "undone",
        }
    }
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// All that a participant remembers of one effect in one phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) effect: Uuid,
    pub(crate) phase: Phase,
    pub(crate) state: State,
    /// What was answered, once it is done or rejected; none: `null`.
    pub(crate) reply: Option<Bytes>,
    /// The command's name and its bytes, as they were first asked: an undo gets these.
    pub(crate) command_name: String,
    pub(crate) command: Bytes,
    /// For operators.
    pub(crate) definition: String,
    pub(crate) saga: Uuid,
    pub(crate) saga_key: String,
    pub(crate) step: String,
    pub(crate) first_asked: Timestamp,
    pub(crate) not_after: Option<Timestamp>,
    /// Who is at it, while it is started.
    pub(crate) owner: Option<Uuid>,
    pub(crate) lease_until: Option<Timestamp>,
    pub(crate) updated_at: Timestamp,
}

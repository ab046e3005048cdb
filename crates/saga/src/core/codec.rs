//! How a saga's event is stored, and read again.

use sagamill_bus::Headers;
use sagamill_eventstore::{NewEvent, Recorded};

use super::{Ask, Decided, Identity, SagaEvent};

/// Counts up with each change of the vocabulary that an older library would fold wrongly.
pub const CORE_REV: u32 = 1;

/// Headers that are stored with a saga's events and mean nothing to a participant.
pub mod header {
    /// [`CORE_REV`](super::CORE_REV) of the library that wrote the event.
    pub const CORE: &str = "sagamill-core";
    /// The hash of the saga's memory after the event, 16 hexadecimal digits.
    pub const HASH: &str = "sagamill-hash";
    /// The process that decided, and its incarnation.
    pub const PROCESS: &str = "sagamill-process";
    /// When it was decided, RFC 3339.
    pub const TIME: &str = "sagamill-time";
    /// The definition's digest, 16 hexadecimal digits; on `saga.started`.
    pub const DIGEST: &str = "sagamill-digest";
    /// The saga's deadline, RFC 3339; on `saga.started`.
    pub const DEADLINE: &str = "sagamill-deadline";
    /// When an answer is late, RFC 3339; on requests and waits.
    pub const DUE: &str = "sagamill-due";
    /// When the next try is due, RFC 3339; on `saga.step-timed-out` and `saga.undo-failed`.
    pub const NEXT: &str = "sagamill-next";
    /// The local steps and undos that the event makes the next to run, JSON.
    pub const BEGUN: &str = "sagamill-begun";
    /// The policy in force.
    pub const POLICY: &str = "sagamill-policy";
}

/// Why an event cannot be read as one of a saga.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A newer library wrote it: hand the saga back, another process may know it.
    #[error("event `{name}` is of revision {rev}, newer than {CORE_REV}: this process is too old for it")]
    Newer {
        /// The event's type.
        name: String,
        /// Its revision.
        rev: u32,
    },
    /// It is no event of a saga.
    #[error("`{0}` is not an event of a saga")]
    Unknown(String),
    /// A header is missing or cannot be read.
    #[error("event `{name}` has no readable header `{header}`")]
    Header {
        /// The event's type.
        name: String,
        /// The header.
        header: &'static str,
    },
    /// The payload is not what the event's type says.
    #[error("event `{name}` has another content than its type says")]
    Payload {
        /// The event's type.
        name: String,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
}

/// A stored event of a saga, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which saga.
    pub identity: Identity,
    /// The process that decided, and its incarnation.
    pub process: Option<String>,
    /// The event.
    pub event: SagaEvent,
}

impl SagaEvent {
    /// Reads a stored event.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(_recorded: &Recorded) -> Result<Entry, DecodeError> {
        todo!()
    }
}

impl Ask {
    /// Reads which ask a reply answers from what it echoes.
    ///
    /// # Errors
    /// [`DecodeError::Header`]: one is missing or cannot be read.
    pub fn from_headers(_headers: &Headers) -> Result<Self, DecodeError> {
        todo!()
    }
}

pub(super) fn encode(_identity: &Identity, _decided: &Decided, _process: &str) -> NewEvent {
    todo!()
}

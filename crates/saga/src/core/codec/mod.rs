//! How a saga's event is stored, and read again.

mod decode;
mod encode;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Ask, By, Finish, Identity, Phase, SagaEvent};

pub(crate) use decode::digest_of;
pub(super) use encode::encode;

/// Counts up with each change of the vocabulary that an older library would fold wrongly.
pub const CORE_REV: u32 = 1;

/// Headers that are stored with a saga's events and mean nothing to a participant.
pub mod header {
    /// [`CORE_REV`](super::CORE_REV) of the library that wrote the event.
    pub const CORE: &str = "sagamill-core";
    /// `1` on a fact that a library which does not know it may pass over, whatever its revision.
    pub const AUX: &str = "sagamill-aux";
    /// The hash of the saga's memory after the event, 16 hexadecimal digits.
    pub const HASH: &str = "sagamill-hash";
    /// The process that decided, and its incarnation.
    pub const PROCESS: &str = "sagamill-process";
    /// When it was decided, RFC 3339.
    pub const TIME: &str = "sagamill-time";
    /// The digest of the definition that the saga was started by, 16 hexadecimal digits.
    pub const DIGEST: &str = "sagamill-digest";
    /// The saga's deadline, RFC 3339; on `saga.started`.
    pub const DEADLINE: &str = "sagamill-deadline";
    /// When an answer is late, RFC 3339; on requests and waits.
    pub const DUE: &str = "sagamill-due";
    /// When the next try is due, RFC 3339; on `saga.step-timed-out` and `saga.undo-failed`.
    pub const NEXT: &str = "sagamill-next";
    /// The local steps and undos that the event makes the next to run, JSON.
    pub const BEGUN: &str = "sagamill-begun";
    /// The message key, where the command has its own.
    pub const COMMAND_KEY: &str = "sagamill-command-key";
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

/// The small contents of the events that carry no command and no reply of their own.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Note<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    then: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pending: bool,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    reply: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_behind: Option<Vec<String>>,
}

impl<'a> Note<'a> {
    fn by(by: &By) -> Self {
        Self {
            actor: Some(by.actor.clone()),
            reason: Some(by.reason.clone()),
            ..Self::default()
        }
    }
    fn end(finish: &Finish) -> Self {
        Self {
            reason: finish.reason.clone(),
            left_behind: Some(finish.left_behind.clone()),
            ..Self::default()
        }
    }
    fn with_reply(mut self, reply: &'a [u8]) -> Self {
        self.reply = serde_json::from_slice(reply).ok();
        self
    }
    fn into_by(self) -> By {
        By {
            actor: self.actor.unwrap_or_default(),
            reason: self.reason.unwrap_or_default(),
        }
    }
    fn into_finish(self) -> Finish {
        Finish {
            reason: self.reason,
            left_behind: self.left_behind.unwrap_or_default(),
        }
    }
}

type BegunRow<'a> = (Cow<'a, str>, Phase, u32, u32, u32, u32, Uuid);

fn write_begun(begun: &[Ask]) -> String {
    let row = |ask: &Ask| -> BegunRow<'static> {
        (
            ask.step.to_string().into(),
            ask.phase,
            ask.group,
            ask.iteration,
            ask.round,
            ask.attempt,
            ask.effect,
        )
    };
    let rows: Vec<_> = begun.iter().map(row).collect();
    serde_json::to_string(&rows).expect("invariant: rows of strings and numbers can be written as JSON")
}

fn read_begun(json: &str) -> Option<Vec<Ask>> {
    let rows: Vec<BegunRow<'_>> = serde_json::from_str(json).ok()?;
    let ask = |(step, phase, group, iteration, round, attempt, effect): BegunRow<'_>| Ask {
        step: step.into(),
        phase,
        group,
        iteration,
        round,
        attempt,
        effect,
    };
    Some(rows.into_iter().map(ask).collect())
}

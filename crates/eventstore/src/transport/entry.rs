//! One message of a group in this process: what is known of it, and what it waits for.

use jiff::Timestamp;
use sagamill_bus::{Message, Topic};

use crate::{Anchor, backlog, entry};

/// A message that waits for its time is kept in memory up to this size; else it is read again then.
const KEPT_BYTES: usize = 4 << 10;

#[derive(Debug)]
pub(super) struct Content {
    pub(super) message: Message,
    pub(super) topic: Topic,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: Anchor,
    pub(super) key: Option<String>,
    /// None: to be read from the log before it is delivered.
    pub(super) content: Option<Content>,
    /// Attempts that count.
    pub(super) attempts: u32,
    /// The attempt to come, or that is being made, is among them.
    pub(super) counted: bool,
    /// It is not tried again before.
    pub(super) due: Timestamp,
    pub(super) row: Row,
    pub(super) stage: Stage,
}

/// Whether it is written down, so that the checkpoint may pass it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    None,
    /// It is being written.
    Asked,
    Written,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Behind another of its key.
    Behind,
    /// For its time.
    Waiting,
    /// For its content.
    Unread,
    /// In doubt: to be counted before it is tried.
    Doubtful,
    Ready,
    /// With a member.
    Flying {
        member: u64,
        delivery: u64,
    },
    /// Something of it is being written; with whose delivery it began.
    Settling {
        member: Option<u64>,
    },
}

impl Entry {
    /// The number of the attempt that is made, or comes next.
    pub(super) fn attempt(&self) -> u32 {
        if self.counted {
            self.attempts
        } else {
            self.attempts.saturating_add(1)
        }
    }
    pub(super) fn open(&self) -> backlog::Open {
        backlog::Open {
            at: self.at,
            key: self.key.clone(),
            attempts: self.attempts,
            due: self.due,
        }
    }
    /// It is not needed for long.
    pub(super) fn forget_content(&mut self) {
        self.content
            .take_if(|content| content.message.payload.len() + entry::bytes(&content.message.headers) > KEPT_BYTES);
    }
    /// Whether something of it is being written on which its stage depends.
    pub(super) fn is_settling(&self) -> bool {
        matches!(self.stage, Stage::Settling { .. })
    }
    /// Whether it is with a member, or something of it is being written.
    pub(super) fn is_busy(&self) -> bool {
        self.is_settling() || self.row == Row::Asked || matches!(self.stage, Stage::Flying { .. })
    }
}

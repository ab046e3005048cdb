//! One message that the broker has delivered to this process.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Key, Message, Topic, dead_letter::Death};

/// A message as the broker delivers it.
#[derive(Debug)]
pub(crate) struct Arrival<I, T> {
    pub(crate) id: I,
    pub(crate) token: T,
    /// Which of the broker's deliveries it is, from 1.
    pub(crate) delivered: u64,
    pub(crate) topic: Topic,
    pub(crate) message: Message,
    /// How it was given up before it was requeued.
    pub(crate) history: Vec<Death>,
}

/// What is written down with the broker of a message, for the process that has it next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Note {
    /// Attempts that have ended, or were counted before they began.
    pub(crate) attempts: u32,
    /// The last of the broker's deliveries that ended without an attempt that nobody counted.
    pub(crate) closed: u64,
}

/// Where a message is. Each is in one stage, and all but the first hold its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Behind an earlier one of its key.
    Behind,
    /// Something must be read or written of it first.
    Chore,
    /// It may have killed a process: to be counted before it is tried.
    Doubtful,
    Ready,
    /// For its next attempt.
    Waiting,
    /// With a member.
    Flying {
        member: u64,
        delivery: u64,
    },
    /// The broker is being told how its delivery ended.
    Settling {
        member: u64,
        delivery: u64,
    },
}

#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) token: T,
    pub(super) delivered: u64,
    pub(super) topic: Topic,
    pub(super) message: Message,
    pub(super) history: Vec<Death>,
    /// Attempts that have ended, with the coming one where that is counted.
    pub(super) attempts: u32,
    /// The coming attempt is among them already.
    pub(super) counted: bool,
    /// What was noted of it by others has not been read yet.
    pub(super) unread: bool,
    /// Somebody may have begun an attempt that was not counted.
    pub(super) doubt: bool,
    /// Its attempts are to be noted before it is tried again.
    pub(super) unnoted: bool,
    /// There is a note of it.
    pub(super) noted: bool,
    /// The broker has taken it back, and may give it to others.
    pub(super) lost: bool,
    pub(super) due: Option<Instant>,
    pub(super) stage: Stage,
}

impl<T> Entry<T> {
    pub(super) fn new<I>(arrival: Arrival<I, T>) -> Self {
        Self {
            token: arrival.token,
            delivered: arrival.delivered,
            topic: arrival.topic,
            message: arrival.message,
            history: arrival.history,
            attempts: 0,
            counted: false,
            unread: arrival.delivered > 1,
            doubt: false,
            unnoted: false,
            noted: false,
            lost: false,
            due: None,
            stage: Stage::Behind,
        }
    }
    pub(super) fn key(&self) -> Option<&Key> {
        self.message.key.as_ref()
    }
    /// Which attempt the next one is, or the one that is going on.
    pub(super) fn attempt(&self) -> u32 {
        if self.counted {
            self.attempts
        } else {
            self.attempts.saturating_add(1)
        }
    }
    /// Whether an attempt was made of it here, or is being counted.
    pub(super) fn is_begun(&self) -> bool {
        let counting = self.doubt && self.stage == Stage::Chore;
        let out = matches!(self.stage, Stage::Flying { .. } | Stage::Settling { .. });
        out || counting || self.counted || self.attempts > 0
    }
    /// What others noted is known now.
    pub(super) fn recall(&mut self, note: Option<Note>) {
        self.noted = note.is_some();
        let note = note.unwrap_or_default();
        self.unread = false;
        self.attempts = note.attempts;
        self.doubt = self.delivered > note.closed.saturating_add(1);
    }
    /// An attempt has failed; the next comes after a time.
    pub(super) fn fail(&mut self, after: Option<Duration>, now: Instant) {
        self.attempts = self.attempt();
        self.counted = false;
        self.doubt = false;
        self.due = after.filter(|after| !after.is_zero()).map(|after| later(now, after));
    }
    /// To be noted while this process goes on with it: an attempt that it begins then is counted by nobody if it dies.
    pub(super) fn open_note(&self) -> Note {
        Note {
            attempts: self.attempts,
            closed: self.delivered.saturating_sub(1),
        }
    }
}

/// A time from now on, at most a year: what is further is never, and adding it could overflow.
fn later(now: Instant, after: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    now + after.min(YEAR)
}

//! What is to be written down of messages, and what follows when it is.

use std::collections::VecDeque;

use jiff::Timestamp;
use sagamill_bus::Result;
use tokio::sync::oneshot;

use super::book::Id;
use crate::{Lease, backlog::Note};

/// Most notes in one commit.
const BATCH: usize = 512;

/// One note on its way to the database.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: Id,
    pub(super) lease: Lease,
    pub(super) note: Note,
    pub(super) then: Then,
    /// Who settles, and waits for it.
    pub(super) answer: Option<oneshot::Sender<Result<()>>>,
}

/// How many notes are written together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Together {
    Many,
    /// One, to find the culprit where a write has failed.
    One,
}

/// What follows once a note is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The message has ended.
    Finish,
    /// It is tried again.
    Again { attempts: u32, due: Timestamp },
    /// The checkpoint may pass it.
    Pass,
    /// It is tried, and this attempt is counted.
    Try,
    /// Nothing.
    Nothing,
}

/// Notes in the order in which they were made. At most a few for each message that is held.
#[derive(Debug, Default)]
pub(super) struct Notes(VecDeque<Request>);

impl Notes {
    pub(super) fn push(&mut self, request: Request) {
        self.0.push_back(request);
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Whether there are some of a shard.
    pub(super) fn has(&self, shard: u16) -> bool {
        self.0.iter().any(|request| request.id.shard == shard)
    }
    /// The next to be written.
    pub(super) fn take(&mut self, together: Together) -> Vec<Request> {
        let most = match together {
            Together::Many => BATCH,
            Together::One => 1,
        };
        let count = self.0.len().min(most);
        self.0.drain(..count).collect()
    }
    /// Those that were not written, before all others.
    pub(super) fn put_back(&mut self, requests: Vec<Request>) {
        for request in requests.into_iter().rev() {
            self.0.push_front(request);
        }
    }
    /// Gives up those that are left: who waits for one is not told that it was written.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

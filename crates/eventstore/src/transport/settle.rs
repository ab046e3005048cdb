//! How a delivery ends, and what is written of it first.
//!
//! An acknowledgement of a message that is not written down is taken in memory, as a checkpoint that is saved later. All
//! other settlements are written under the shard's lease before they are answered.

use std::time::Duration;

use futures_core::future::BoxFuture;
use jiff::Timestamp;
use sagamill_bus::{Error, Result, Settlement, Topic, Wake};
use tokio::sync::oneshot;

use super::{
    book::Id,
    entry::{Entry, Row, Stage},
    fault,
    group::{Group, State},
    notes::{Request, Then},
};
use crate::{
    Lease,
    backlog::{Burial, Note, Open},
    metric_definitions::{BUS_DEAD, BUS_RETRIES, BUS_TRIALS},
};

/// Most bytes that are kept of why a message was given up.
const REASON_MAX: usize = 4 << 10;
/// The longest wait for another attempt.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Group {
    /// Ends a delivery.
    pub(super) fn settle(&self, id: Id, delivery: u64, settlement: Settlement) -> BoxFuture<'static, Result<()>> {
        let (answer, answered) = oneshot::channel();
        let settled = self.settle_now(id, delivery, settlement, Some(answer));
        Box::pin(async move {
            match settled {
                // Answered by the pump, which answers all it has taken; it ends without one where its runtime does.
                Ok(false) => answered.await.unwrap_or(Err(Error::Stale)),
                done => done.map(drop),
            }
        })
    }
    /// A delivery was dropped: an attempt.
    pub(super) fn dropped(&self, id: Id, delivery: u64) {
        // Too late, it has been given back already.
        let _ = self.settle_now(id, delivery, Settlement::Retry { after: None }, None);
    }
    /// Whether that was all, or something is to be written first.
    fn settle_now(
        &self,
        id: Id,
        delivery: u64,
        settlement: Settlement,
        answer: Option<oneshot::Sender<Result<()>>>,
    ) -> Result<bool> {
        let mut wake = Wake::default();
        let mut guard = self.lock();
        let state = &mut *guard;
        let now = self.clock.now();
        let holds = self.progress.holds(id.shard);
        let lease = state.book.lease(id.shard).cloned().ok_or(Error::Stale)?;
        let (member, entry) = state.book.flying(id, delivery).ok_or(Error::Stale)?;
        if settlement == Settlement::Ack && entry.row == Row::None && holds {
            self.finish(state, id, Some(member), &mut wake);
            return Ok(true);
        }
        let (note, then) = self.note(entry, settlement, now);
        entry.stage = Stage::Settling { member: Some(member) };
        // It has killed nobody: the next in doubt is counted in the same commit.
        state.book.trials.end(id);
        state.notes.push(Request {
            id,
            lease,
            note,
            then,
            answer,
        });
        self.work.notify_one();
        Ok(false)
    }
    /// What is written of a settlement. An acknowledgement of a message of which nothing is written asks for its lease.
    fn note(&self, entry: &Entry, settlement: Settlement, now: Timestamp) -> (Note, Then) {
        let attempts = entry.attempt();
        match settlement {
            Settlement::Ack => (Note::Forget(entry.at.position), Then::Finish),
            Settlement::Dead { reason } => (Note::Bury(self.burial(entry, attempts, reason)), Then::Finish),
            Settlement::Retry { after: Some(after) } => again(entry, attempts, later(now, after)),
            _ => again(entry, attempts, now),
        }
    }
    fn burial(&self, entry: &Entry, attempts: u32, mut reason: String) -> Burial {
        let content = entry.content.as_ref();
        reason.truncate(reason.floor_char_boundary(REASON_MAX));
        // Not every database takes it in a text.
        let reason = reason.replace('\0', "\u{fffd}");
        Burial {
            at: entry.at,
            topic: content.map_or_else(|| Topic::from(""), |content| content.topic.clone()),
            group: self.name.clone(),
            message: content.map_or_else(uuid::Uuid::nil, |content| content.message.id.0),
            attempts,
            reason,
        }
    }

    /// The group is done with a message.
    pub(super) fn finish(&self, state: &mut State, id: Id, member: Option<u64>, wake: &mut Wake) {
        let now = self.clock.now();
        let ended = state.book.finish(id, now);
        if ended.is_some_and(|entry| entry.row != Row::Written) {
            self.progress.done(id.shard, id.position);
        }
        self.land(state, id, member, wake);
        self.announce(state, wake);
    }
    /// A delivery has ended.
    pub(super) fn land(&self, state: &mut State, id: Id, member: Option<u64>, wake: &mut Wake) {
        if let Some(member) = member {
            state.roster.land(member, wake);
        }
        state.book.trials.end(id);
    }
    /// Has messages written down, so that the checkpoint may pass them.
    pub(super) fn pass(&self, state: &mut State, ids: Vec<Id>) {
        for id in ids {
            let lease = state.book.lease(id.shard).cloned();
            let (Some(lease), Some(entry)) = (lease, state.book.entry(id)) else {
                continue;
            };
            entry.row = Row::Asked;
            state.notes.push(Request {
                id,
                lease,
                note: Note::Keep(entry.open()),
                then: Then::Pass,
                answer: None,
            });
        }
    }

    /// Notes were written, or not: goes on with their messages.
    pub(super) fn noted(&self, requests: Vec<Request>, written: &crate::Result<Vec<Lease>>) {
        let mut wake = Wake::default();
        let mut guard = self.lock();
        let state = &mut *guard;
        for request in requests {
            let result = match written {
                Ok(lost) if lost.contains(&request.lease) => Err(Error::Stale),
                Ok(_) => self.apply(state, &request, &mut wake).then_some(()).ok_or(Error::Stale),
                Err(error) => {
                    self.revert(state, &request, &mut wake);
                    Err(fault(error))
                }
            };
            if let Some(answer) = request.answer {
                // Who settled may have gone away since.
                let _ = answer.send(result);
            }
        }
        for lease in written.iter().flatten() {
            self.lose(state, lease, &mut wake);
        }
        self.announce(state, &mut wake);
    }
    /// What follows a note that is written. False: it may not stand.
    fn apply(&self, state: &mut State, request: &Request, wake: &mut Wake) -> bool {
        let id = request.id;
        let Some(entry) = state.book.entry(id) else {
            // Its shard was lost since. What was written stands; that nothing was to be written may not.
            return !matches!(request.note, Note::Forget(_));
        };
        let member = match entry.stage {
            Stage::Flying { member, .. } => Some(member),
            Stage::Settling { member } => member,
            _ => None,
        };
        match request.then {
            Then::Finish => {
                let died = matches!(request.note, Note::Bury(_));
                if died {
                    metrics::counter!(BUS_DEAD, "group" => self.name.clone()).increment(1);
                }
                self.finish(state, id, member, wake);
            }
            Then::Again { attempts, due } => {
                metrics::counter!(BUS_RETRIES, "group" => self.name.clone()).increment(1);
                self.wait(state, id, attempts, due);
                self.pass_on(state, id);
                state.book.offer(id, self.clock.now());
                self.land(state, id, member, wake);
            }
            Then::Pass => self.pass_on(state, id),
            Then::Try => {
                metrics::counter!(BUS_TRIALS, "group" => self.name.clone()).increment(1);
                entry.attempts = entry.attempts.saturating_add(1);
                entry.counted = true;
                self.pass_on(state, id);
                state.book.offer_first(id, self.clock.now());
            }
            Then::Nothing => (),
        }
        true
    }
    /// A message is written down: the checkpoint may pass it.
    fn pass_on(&self, state: &mut State, id: Id) {
        if state.book.wrote(id) {
            self.progress.done(id.shard, id.position);
        }
    }
    /// A note could not be written: its message comes again, or is noted again when there is need.
    fn revert(&self, state: &mut State, request: &Request, wake: &mut Wake) {
        let id = request.id;
        let Some(entry) = state.book.entry(id) else { return };
        let member = match entry.stage {
            Stage::Settling { member } => member,
            _ => None,
        };
        match request.then {
            Then::Finish | Then::Again { .. } => {
                if let Then::Again { attempts, due } = request.then {
                    self.wait(state, id, attempts, due);
                }
                state.book.offer(id, self.clock.now());
                self.land(state, id, member, wake);
            }
            Then::Pass if entry.row == Row::Asked => entry.row = Row::None,
            Then::Try => {
                state.book.trials.end(id);
                state.book.offer_first(id, self.clock.now());
            }
            Then::Pass | Then::Nothing => (),
        }
    }
    fn wait(&self, state: &mut State, id: Id, attempts: u32, due: Timestamp) {
        if let Some(entry) = state.book.entry(id) {
            (entry.attempts, entry.counted, entry.due) = (attempts, false, due);
        }
    }
    /// A shard is another's: nothing more of it is delivered or settled here.
    pub(super) fn lose(&self, state: &mut State, lease: &Lease, wake: &mut Wake) {
        if state.book.lease(lease.shard) != Some(lease) {
            return;
        }
        for entry in state.book.lose(lease.shard) {
            if let Stage::Flying { member, .. } | Stage::Settling { member: Some(member) } = entry.stage {
                state.roster.land(member, wake);
            }
        }
    }
    /// Counts messages in doubt that may be tried now, before they are.
    pub(super) fn try_doubtful(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let leaving = self.progress.view().leaving();
        while let Some(id) = state.book.trials.begin(|id| !leaving.contains(&id.shard)) {
            let lease = state.book.lease(id.shard).cloned();
            let (Some(lease), Some(entry)) = (lease, state.book.entry(id)) else {
                state.book.trials.end(id);
                continue;
            };
            entry.stage = Stage::Settling { member: None };
            let counted = Open {
                attempts: entry.attempts.saturating_add(1),
                ..entry.open()
            };
            state.notes.push(Request {
                id,
                lease,
                note: Note::Keep(counted),
                then: Then::Try,
                answer: None,
            });
        }
    }
}

fn again(entry: &Entry, attempts: u32, due: Timestamp) -> (Note, Then) {
    let open = Open {
        attempts,
        due,
        ..entry.open()
    };
    (Note::Keep(open), Then::Again { attempts, due })
}

fn later(now: Timestamp, after: Duration) -> Timestamp {
    now.checked_add(after.min(WAIT_MAX)).unwrap_or(Timestamp::MAX)
}

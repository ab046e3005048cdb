//! One group on one topic or pattern, in this process: its members take their messages from here.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use jiff::Timestamp;
use sagamill_bus::{Delivery, Error, Order, Result, Roster, Subscribe, Wake};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    book::{Book, Id},
    entry::{Row, Stage},
    fault,
    member::Ticket,
    notes::{Notes, Request, Then},
};
use crate::{
    Progress,
    backend::Backend,
    backlog::{BEGUN_SPAN, Note},
};

/// How long members wait that found something which they may not have yet, say for a lease in doubt.
const LOOK: Duration = Duration::from_millis(100);

pub(super) struct Group {
    /// The subscription's name in the log.
    pub(super) subscription: String,
    pub(super) name: String,
    transport: &'static str,
    pub(super) order: Order,
    pub(super) progress: Progress,
    pub(super) clock: Arc<dyn Backend>,
    state: Mutex<State>,
    /// The pump may find more to do.
    pub(super) work: Notify,
    /// Nothing more is wanted.
    pub(super) stop: CancellationToken,
    /// All is given back.
    pub(super) ended: CancellationToken,
}

pub(super) struct State {
    pub(super) book: Book,
    pub(super) roster: Roster,
    pub(super) notes: Notes,
    /// A message that lies too far beyond its shard's saved checkpoint.
    pub(super) blocked: Option<Id>,
    /// When members look again that found something and may not have it yet.
    pub(super) look: Option<Instant>,
    deliveries: u64,
    over: bool,
    /// What a member is told before its stream ends.
    failure: Option<crate::Error>,
}

impl Group {
    pub(super) fn new(
        request: &Subscribe,
        transport: &'static str,
        subscription: String,
        progress: Progress,
        clock: Arc<dyn Backend>,
        stop: CancellationToken,
    ) -> Self {
        let state = State {
            book: Book::new(request.order, request.attempts_max),
            roster: Roster::default(),
            notes: Notes::default(),
            blocked: None,
            look: None,
            deliveries: 0,
            over: false,
            failure: None,
        };
        Self {
            subscription,
            name: request.group.clone(),
            transport,
            order: request.order,
            progress,
            clock,
            state: Mutex::new(state),
            work: Notify::new(),
            stop,
            ended: CancellationToken::new(),
        }
    }
    /// A panic under the lock leaves nothing half done that a later caller could not live with; and a delivery that is
    /// dropped by a panic must not panic again.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new member; none where the group is about to end here.
    pub(super) fn join(&self, request: &Subscribe) -> Result<Option<u64>> {
        let mut state = self.lock();
        if state.over || self.stop.is_cancelled() {
            return Ok(None);
        }
        if request.order != self.order {
            return Err(Error::Unsupported {
                transport: self.transport,
                wanted: "members of one group that differ in order",
            });
        }
        Ok(Some(state.roster.join(request.max_in_flight)))
    }
    /// A member's stream is gone: what it had out goes to others, and was no attempt. The last one ends the group here.
    pub(super) fn leave(&self, member: u64) {
        let mut wake = Wake::default();
        let mut state = self.lock();
        let now = self.clock.now();
        for id in state.book.out_with(member).into_iter().rev() {
            self.give_back(&mut state, id, now);
        }
        if state.roster.leave(member) {
            self.stop.cancel();
        }
        self.announce(&mut state, &mut wake);
    }

    /// Takes a message for a member, or notes whom to wake.
    pub(super) fn poll(self: &Arc<Self>, member: u64, cx: &Context<'_>) -> Poll<Option<Result<Delivery>>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(failure) = state.failure.take() {
            return Poll::Ready(Some(Err(fault(&failure))));
        }
        if state.over {
            return Poll::Ready(None);
        }
        let found = if state.roster.may_take(member) {
            self.pick(state)
        } else {
            None
        };
        let delivery = found.and_then(|index| {
            let id = state.book.ready.remove(index)?;
            self.deliver(state, member, id)
        });
        if delivery.is_some() && state.book.has_unread() {
            // There is room for another's content.
            self.work.notify_one();
        }
        if delivery.is_none() {
            state.roster.wait(member, cx);
        }
        delivery.map_or(Poll::Pending, |delivery| Poll::Ready(Some(Ok(delivery))))
    }
    /// The first of those that are ready that may go out now.
    fn pick(&self, state: &mut State) -> Option<usize> {
        let view = self.progress.view();
        let leaving = view.leaving();
        let mut index = 0;
        let mut look = false;
        state.blocked = None;
        while let Some(id) = state.book.ready.get(index).copied() {
            let full = state.book.is_full();
            let Some(entry) = state.book.entry(id).filter(|entry| entry.stage == Stage::Ready) else {
                state.book.ready.remove(index);
                continue;
            };
            let written = entry.row == Row::Written;
            match view.standing(id.shard).filter(|_| !leaving.contains(&id.shard)) {
                Some(_) if written => return Some(index),
                Some(standing) if !full && id.position.0 <= standing.saved.0 + BEGUN_SPAN => return Some(index),
                Some(_) if !full => {
                    state.blocked.get_or_insert(id);
                    look = true;
                }
                // Its lease is in doubt, or it leaves, or too many are written down.
                _ => look = true,
            }
            index += 1;
        }
        if look {
            state.look.get_or_insert_with(|| Instant::now() + LOOK);
            self.work.notify_one();
        }
        None
    }
    fn deliver(self: &Arc<Self>, state: &mut State, member: u64, id: Id) -> Option<Delivery> {
        state.deliveries += 1;
        let delivery = state.deliveries;
        let entry = state.book.entry(id)?;
        let content = entry.content.as_ref()?;
        let (message, topic, attempt) = (content.message.clone(), content.topic.clone(), entry.attempt());
        entry.stage = Stage::Flying { member, delivery };
        state.roster.take_off(member);
        let group = Arc::clone(self);
        Some(Delivery::new(message, topic, attempt, Ticket { group, id, delivery }))
    }

    /// Wakes the members where something has become ready, and the pump for what it has to do.
    pub(super) fn announce(&self, state: &mut State, wake: &mut Wake) {
        if state.book.has_news() {
            state.roster.wake_all(wake);
        }
        self.work.notify_one();
    }
    /// A message that is out goes to another, as if it had never been.
    fn give_back(&self, state: &mut State, id: Id, now: Timestamp) {
        let lease = state.book.lease(id.shard).cloned();
        let (Some(lease), Some(entry)) = (lease, state.book.entry(id)) else {
            return;
        };
        if entry.counted {
            entry.counted = false;
            entry.attempts = entry.attempts.saturating_sub(1);
            state.notes.push(Request {
                id,
                lease,
                note: Note::Keep(entry.open()),
                then: Then::Nothing,
                answer: None,
            });
        }
        state.book.offer_first(id, now);
        state.book.trials.end(id);
    }

    /// Nothing more is delivered, and what is out can no longer be settled. What was overtaken is to be written down, so that
    /// what overtook it does not come again.
    pub(super) fn end(&self, failure: Option<crate::Error>) {
        let mut wake = Wake::default();
        let mut guard = self.lock();
        let state = &mut *guard;
        state.over = true;
        state.failure = failure;
        state.roster.wake_all(&mut wake);
        let now = self.clock.now();
        for member in state.roster.members() {
            for id in state.book.out_with(member) {
                self.give_back(state, id, now);
            }
        }
        for shard in state.book.shards() {
            let overtaken = state.book.overtaken(shard);
            self.pass(state, overtaken);
        }
    }
    /// Prepares shards that are to go to another process: what is out is waited for, and what was overtaken is written down.
    pub(super) fn pack(&self) {
        let leaving = self.progress.view().leaving();
        for shard in leaving {
            let mut guard = self.lock();
            let state = &mut *guard;
            let now = self.clock.now();
            for id in state.book.counted(shard) {
                self.give_back(state, id, now);
            }
            if state.notes.has(shard) || !state.book.is_at_rest(shard) {
                continue;
            }
            let overtaken = state.book.overtaken(shard);
            if overtaken.is_empty() {
                self.progress.let_go(shard);
            } else {
                self.pass(state, overtaken);
            }
        }
    }
    /// All has been given back; who waits for an answer gets none.
    pub(super) fn close(&self) {
        let mut wake = Wake::default();
        let mut state = self.lock();
        state.over = true;
        state.notes.clear();
        state.roster.wake_all(&mut wake);
        drop(state);
        self.ended.cancel();
    }
}

//! One consumer group on one topic or pattern: its queue, its members, and what they have in flight.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Context,
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    Limits,
    confirm::Confirm,
    dead::Graveyard,
    fault::{Faults, Switch},
    later, lock,
    member::Ticket,
    queue::{Entry, Queue},
    roster::{Readiness, Roster},
};
use crate::{Delivery, Error, Message, Order, Result, Settlement, Topic, Wake, dead_letter::Death};

/// When a dead letter finds no room, its message comes again after this time.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// Lives as long as its broker: what it was subscribed for waits until a member comes back.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) pattern: Topic,
    limits: Limits,
    faults: Arc<Switch>,
    /// Messages that wait here and are not in flight, with those a publisher has reserved room for.
    load: AtomicUsize,
    space: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    roster: Roster,
    admitted: u64,
    dead: BTreeMap<Topic, Graveyard>,
}

/// What a member finds.
pub(super) enum Found {
    Delivery(Delivery),
    /// Nothing now; something is due at this time.
    Nothing(Option<Instant>),
    /// The connection was closed.
    End,
}

impl Group {
    pub(super) fn new(name: String, pattern: Topic, limits: Limits, faults: Arc<Switch>) -> Self {
        Self {
            name,
            pattern,
            limits,
            faults,
            load: AtomicUsize::new(0),
            space: Notify::new(),
            state: Mutex::default(),
        }
    }

    /// Makes room for one message, unless the queue is full.
    pub(super) fn reserve(&self) -> bool {
        let max = self.limits.queue;
        let more = |load| (load < max).then_some(load + 1);
        self.load
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }
    /// Room beyond the bound, for what must not be refused.
    pub(super) fn force_reserve(&self) {
        self.load.fetch_add(1, Ordering::AcqRel);
    }
    /// Gives room back. Publishers go on when a quarter of the queue is free: waking one for each slot costs a switch each.
    pub(super) fn unreserve(&self) {
        let low = self.limits.queue - (self.limits.queue / 4).max(1);
        if self.load.fetch_sub(1, Ordering::AcqRel) == low + 1 {
            self.space.notify_waiters();
        }
    }
    /// Returns when there may be room.
    pub(super) async fn room(&self) {
        let mut space = std::pin::pin!(self.space.notified());
        // Registered before the load is read, or the last give-back could be missed.
        space.as_mut().enable();
        if self.load.load(Ordering::Acquire) >= self.limits.queue {
            space.await;
        }
    }
    /// Queues a message that room was reserved for.
    pub(super) fn push(&self, message: &Arc<Message>, topic: &Topic, confirm: Option<Arc<Confirm>>) {
        self.admit(Arc::clone(message), topic, |entry| Entry { confirm, ..entry });
    }
    /// Puts a message back in that was a dead letter.
    pub(super) fn revive(&self, message: Message, topic: &Topic, history: Vec<Death>) {
        self.force_reserve();
        self.admit(Arc::new(message), topic, |entry| Entry { history, ..entry });
    }
    fn admit(&self, message: Arc<Message>, topic: &Topic, with: impl FnOnce(Entry) -> Entry) {
        let mut wake = Wake::default();
        let mut state = lock(&self.state);
        state.admitted += 1;
        let entry = with(Entry::new(message, topic, state.admitted));
        if let Some(head) = state.queue.admit(entry) {
            self.offer(&mut state, head, &mut wake);
        }
        drop(state);
    }

    pub(super) fn join(&self, connection: u64, order: Order, max_in_flight: usize) -> Result<usize> {
        let mut state = lock(&self.state);
        if state.queue.order() != order {
            if state.roster.has_members() {
                let wanted = "members of one group that differ in order";
                return Err(Error::Unsupported {
                    transport: "memory",
                    wanted,
                });
            }
            state.queue.set_order(order);
        }
        Ok(state.roster.join(connection, max_in_flight))
    }
    /// Ends a membership: what it has in flight goes to others, and was no attempt.
    pub(super) fn leave(&self, member: usize) {
        let mut wake = Wake::default();
        let mut state = lock(&self.state);
        for entry in state.roster.leave(member).into_iter().rev() {
            self.give_back(&mut state, entry, &mut wake);
        }
        drop(state);
    }
    /// Ends the streams of a closed connection; what they have in flight can still be settled.
    pub(super) fn end(&self, connection: u64) {
        let mut wake = Wake::default();
        lock(&self.state).roster.end(connection, &mut wake);
    }

    /// Takes a message for a member, or notes whom to wake.
    pub(super) fn poll(self: &Arc<Self>, member: usize, cx: &Context<'_>) -> Found {
        let mut wake = Wake::default();
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let readiness = state.roster.readiness(member);
        if readiness == Readiness::Ended {
            return Found::End;
        }
        let may_take = readiness == Readiness::May;
        if may_take && state.queue.has_delayed() {
            state.queue.promote(Instant::now());
        }
        if may_take && state.queue.ready() > 0 {
            if state.roster.another_waits(member) && state.queue.was_had_by(member) {
                // What one member could not do, perhaps another one can. It comes first; if it does not come, this one does.
                state.roster.wake_idle(&mut wake);
                wake.add([cx.waker().clone()]);
                return Found::Nothing(None);
            }
            let delivery = self.deliver(state, member, &mut wake);
            drop(guard);
            self.unreserve();
            return Found::Delivery(delivery);
        }
        state.roster.wait(member, readiness, cx);
        Found::Nothing(state.queue.next_due().filter(|_| may_take))
    }

    /// Ends a delivery. All ways of doing so go through here.
    pub(super) fn settle(&self, slot: usize, delivery: u64, settlement: Settlement) -> Result<()> {
        let mut wake = Wake::default();
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let (mut entry, _) = state.roster.land(slot, delivery, &mut wake).ok_or(Error::Stale)?;
        if entry.copy {
            return Ok(());
        }
        match settlement {
            Settlement::Ack => match self.faults.ask(None, Faults::on_ack) {
                Some(timeout) => {
                    entry.attempts += 1;
                    self.requeue(state, entry, Some(timeout), &mut wake);
                }
                None => self.finish(state, &entry, &mut wake),
            },
            Settlement::Retry { after } => {
                entry.attempts += 1;
                self.requeue(state, entry, after, &mut wake);
            }
            Settlement::Dead { reason } => return self.bury(state, entry, reason, &mut wake),
        }
        Ok(())
    }
    /// A delivery was dropped: an attempt, unless its connection was closed.
    pub(super) fn dropped(&self, slot: usize, delivery: u64) {
        let mut wake = Wake::default();
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        match state.roster.land(slot, delivery, &mut wake) {
            Some((entry, true)) => self.give_back(state, entry, &mut wake),
            Some((mut entry, false)) if !entry.copy => {
                entry.attempts += 1;
                self.requeue(state, entry, None, &mut wake);
            }
            Some((_, false)) | None => {}
        }
    }

    /// Reads and changes the dead letters of one topic.
    pub(super) fn graveyard<T>(&self, topic: &Topic, work: impl FnOnce(&mut Graveyard) -> T) -> T {
        work(lock(&self.state).dead.entry(topic.clone()).or_default())
    }
    /// How many dead letters there are, by topic.
    pub(super) fn dead(&self) -> Vec<(Topic, usize)> {
        let state = lock(&self.state);
        state
            .dead
            .iter()
            .map(|(topic, dead)| (topic.clone(), dead.len()))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
    /// Messages that wait, and messages in flight.
    pub(super) fn backlog(&self) -> (usize, usize) {
        let in_flight = lock(&self.state).roster.in_flight();
        (self.load.load(Ordering::Acquire), in_flight)
    }
    /// Connections that have members.
    pub(super) fn connections(&self) -> usize {
        lock(&self.state).roster.connections()
    }

    /// Makes the head of a lane deliverable, now or, by a fault, later.
    fn offer(&self, state: &mut State, entry: Entry, wake: &mut Wake) {
        match self.faults.ask(None, Faults::on_offer) {
            Some(late) => state.queue.delay(entry, later(late)),
            None => state.queue.push_back(entry),
        }
        state.roster.wake_idle(wake);
    }
    fn requeue(&self, state: &mut State, entry: Entry, after: Option<Duration>, wake: &mut Wake) {
        self.force_reserve();
        match after.filter(|after| !after.is_zero()) {
            Some(after) => state.queue.delay(entry, later(after)),
            None => state.queue.push_back(entry),
        }
        state.roster.wake_idle(wake);
    }
    fn give_back(&self, state: &mut State, entry: Entry, wake: &mut Wake) {
        if entry.copy {
            return;
        }
        self.force_reserve();
        state.queue.push_front(entry);
        state.roster.wake_idle(wake);
    }
    /// The group is done with a message: its key moves on.
    fn finish(&self, state: &mut State, entry: &Entry, wake: &mut Wake) {
        if let Some(next) = state.queue.release(entry) {
            self.offer(state, next, wake);
        }
        if let Some(confirm) = &entry.confirm {
            confirm.settle();
        }
    }
    fn bury(&self, state: &mut State, entry: Entry, reason: String, wake: &mut Wake) -> Result<()> {
        let graveyard = state.dead.entry(entry.topic.clone()).or_default();
        if graveyard.len() >= self.limits.dead_letters {
            let error = Error::DeadLettersFull {
                topic: entry.topic.to_string(),
                group: self.name.clone(),
            };
            self.requeue(state, entry, Some(FULL_RETRY), wake);
            return Err(error);
        }
        let death = Death {
            reason,
            attempts: entry.attempts + 1,
        };
        graveyard.bury((*entry.message).clone(), death, entry.history.clone());
        self.finish(state, &entry, wake);
        Ok(())
    }
    fn deliver(self: &Arc<Self>, state: &mut State, member: usize, wake: &mut Wake) -> Delivery {
        let ready = state.queue.ready();
        let index = self.faults.ask(0, |faults| faults.pick(ready));
        let entry = state
            .queue
            .take(index)
            .expect("invariant: the index is below the number of deliverable messages");
        if entry.attempts == 0
            && !entry.copy
            && let Some(late) = self.faults.ask(None, Faults::on_delivery)
        {
            self.force_reserve();
            state.queue.delay(entry.duplicate(), later(late));
            state.roster.wake_idle(wake);
        }
        let (message, topic, attempt) = ((*entry.message).clone(), entry.topic.clone(), entry.attempts + 1);
        let (slot, delivery) = state.roster.take_off(member, entry);
        Delivery::new(message, topic, attempt, Ticket::new(Arc::clone(self), slot, delivery))
    }
}

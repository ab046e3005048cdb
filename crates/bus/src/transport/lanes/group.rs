//! One group on one topic or pattern, in one connection: its members take their messages from here.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Broker,
    book::Book,
    entry::{Arrival, Entry, Note, Stage},
    member::{Member, Ticket},
};
use crate::{Deliveries, Delivery, Error, Order, Result, Roster, Subscribe, Wake};

/// So many messages are fetched for a member beyond what it may have unsettled, at most: enough that it need not wait for
/// the broker, and few enough that another process is not kept waiting for them.
const PREFETCH_MAX: usize = 64;

pub(crate) struct Group<B: Broker> {
    pub(super) broker: B,
    transport: &'static str,
    order: Order,
    state: Mutex<State<B>>,
    /// There may be room for more, or an end to it.
    pub(crate) work: Notify,
    /// There may be something to do for the clerk.
    pub(super) chores: Notify,
    /// Nothing more is wanted.
    pub(crate) stop: CancellationToken,
    /// All is given back.
    pub(crate) ended: CancellationToken,
}

pub(super) struct State<B: Broker> {
    pub(super) book: Book<B::Id, B::Token>,
    pub(super) roster: Roster,
    /// When the broker last delivered something again.
    pub(super) redelivered: Option<Instant>,
    deliveries: u64,
    pub(super) over: bool,
    /// What a member is told of the connection.
    failure: Option<Error>,
}

impl<B: Broker> Group<B> {
    pub(crate) fn new(broker: B, transport: &'static str, request: &Subscribe, stop: CancellationToken) -> Self {
        let state = State {
            book: Book::new(request.order, request.attempts_max),
            roster: Roster::default(),
            redelivered: None,
            deliveries: 0,
            over: false,
            failure: None,
        };
        Self {
            broker,
            transport,
            order: request.order,
            state: Mutex::new(state),
            work: Notify::new(),
            chores: Notify::new(),
            stop,
            ended: CancellationToken::new(),
        }
    }
    /// A panic under the lock leaves nothing half done that a later caller could not live with; and a delivery that is
    /// dropped by a panic must not panic again.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new member's stream; none where the group is about to end here.
    pub(crate) fn join(self: &Arc<Self>, request: &Subscribe) -> Result<Option<Deliveries>> {
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
        let id = state.roster.join(request.max_in_flight);
        drop(state);
        self.work.notify_one();
        let group = Arc::clone(self);
        Ok(Some(Box::pin(Member { group, id })))
    }
    /// A member's stream is gone: what it had out goes to others, and was no attempt. The last one ends the group here.
    pub(super) fn leave(&self, member: u64) {
        let mut wake = Wake::default();
        let mut state = self.lock();
        let now = Instant::now();
        for id in state.book.out_with(member).into_iter().rev() {
            state.book.offer_first(id, now);
        }
        if state.roster.leave(member) {
            self.stop.cancel();
        }
        self.announce(&mut state, &mut wake);
    }

    /// Takes a message for a member, or notes whom to wake.
    pub(super) fn poll(self: &Arc<Self>, member: u64, cx: &Context<'_>) -> Poll<Option<Result<Delivery>>> {
        let mut state = self.lock();
        if let Some(failure) = state.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        if state.over {
            return Poll::Ready(None);
        }
        let next = if state.roster.may_take(member) {
            state.book.next_ready()
        } else {
            None
        };
        match next.and_then(|id| self.deliver(&mut state, member, id)) {
            Some(delivery) => Poll::Ready(Some(Ok(delivery))),
            None => {
                state.roster.wait(member, cx);
                Poll::Pending
            }
        }
    }
    fn deliver(self: &Arc<Self>, state: &mut State<B>, member: u64, id: B::Id) -> Option<Delivery> {
        state.deliveries += 1;
        let delivery = state.deliveries;
        let entry = state.book.entry(id)?;
        entry.stage = Stage::Flying { member, delivery };
        let (message, topic, attempt) = (entry.message.clone(), entry.topic.clone(), entry.attempt());
        state.roster.take_off(member);
        let group = Arc::clone(self);
        Some(Delivery::new(message, topic, attempt, Ticket { group, id, delivery }))
    }

    /// A message comes from the broker. False: nothing is wanted any more, and it is to be given back.
    pub(crate) fn arrive(&self, arrival: Arrival<B::Id, B::Token>) -> bool {
        let mut wake = Wake::default();
        let mut state = self.lock();
        if state.over {
            return false;
        }
        let now = Instant::now();
        if arrival.delivered > 1 {
            state.redelivered = Some(now);
        }
        state.book.take(arrival, now);
        self.announce(&mut state, &mut wake);
        true
    }
    /// How many more messages are to be asked for.
    #[cfg(any(feature = "kafka", feature = "nats"))]
    pub(crate) fn room(&self) -> usize {
        let state = self.lock();
        let most = state.roster.limits().map(busy_max).sum();
        let room = state.book.room(most);
        // Asked for a quarter at a time: a question for each message would cost more than the message.
        if room >= most.div_ceil(4) { room } else { 0 }
    }
    /// How many messages the broker is to leave here unsettled, for one that delivers without being asked.
    #[cfg(feature = "amqp")]
    pub(crate) fn appetite(&self) -> usize {
        let state = self.lock();
        let busy = state.roster.limits().map(busy_max).sum();
        let wanted = state.book.held() + state.book.room(busy);
        // What is held beyond that is of an earlier limit, and asks for no more.
        wanted.clamp(1, super::book::HELD_MAX.max(busy))
    }
    /// The broker has taken back all that it delivered. Gives what is with members still, which it may deliver again.
    #[cfg(feature = "amqp")]
    pub(crate) fn lose(&self) -> Vec<B::Id> {
        self.lock().book.lose()
    }
    /// What the broker must be kept from giving to others.
    #[cfg(any(test, feature = "nats"))]
    pub(crate) fn tokens(&self) -> Vec<B::Token> {
        self.lock().book.tokens()
    }
    /// Tells one member that something is wrong with the connection; the subscription goes on.
    pub(crate) fn report(&self, failure: Error) {
        let mut wake = Wake::default();
        let mut state = self.lock();
        state.failure = Some(failure);
        state.roster.wake_all(&mut wake);
    }
    /// Wakes the members where something has become ready, and the clerk for what it has to do.
    pub(super) fn announce(&self, state: &mut State<B>, wake: &mut Wake) {
        if state.book.has_news() {
            state.roster.wake_all(wake);
        }
        self.chores.notify_one();
    }

    /// Takes back messages that go to another process: those that no member has out, or also those, whose settlement is stale
    /// then. Answers what is to be noted of them, and whether nothing is left.
    #[cfg(feature = "kafka")]
    pub(crate) fn withdraw(&self, of: impl Fn(&B::Id) -> bool, out_too: bool) -> (Vec<(B::Id, Note)>, bool) {
        let (mut wake, now, mut notes) = (Wake::default(), Instant::now(), Vec::new());
        let mut state = self.lock();
        let (withdrawn, is_clear) = state.book.withdrawable(of, out_too);
        // The last first: none of them takes the place of another.
        for id in withdrawn.into_iter().rev() {
            let Some(entry) = state.book.finish(id, now) else {
                continue;
            };
            notes.extend(last_note(&entry).map(|note| (id, note)));
            if let Stage::Flying { member, .. } = entry.stage {
                state.roster.land(member, &mut wake);
            }
        }
        self.announce(&mut state, &mut wake);
        self.work.notify_one();
        (notes, is_clear)
    }
    /// What is done with messages.
    #[cfg(feature = "kafka")]
    pub(crate) fn broker(&self) -> &B {
        &self.broker
    }

    /// Ends the streams, and gives back what they have not settled, oldest first. What the broker is being told of may end.
    pub(crate) async fn end(&self) {
        for (id, entry) in self.shut() {
            if let Some(note) = last_note(&entry)
                && let Err(error) = self.broker.note(id, note).await
            {
                tracing::warn!(
                    ?id,
                    error = crate::error::chain(&error),
                    "given back with a wrong number of attempts"
                );
            }
            let after = entry.due.map(|due| due.saturating_duration_since(Instant::now()));
            if let Err(error) = self.broker.give_back(&entry.token, after).await {
                tracing::debug!(
                    ?id,
                    error = crate::error::chain(&error),
                    "not given back: it comes again in its time"
                );
            }
        }
    }
    fn shut(&self) -> Vec<(B::Id, Entry<B::Token>)> {
        let mut wake = Wake::default();
        let mut state = self.lock();
        state.over = true;
        state.roster.wake_all(&mut wake);
        state.book.empty()
    }
    /// Whether the broker is being told how some deliveries ended.
    pub(crate) fn is_settling(&self) -> bool {
        self.lock().book.is_settling()
    }
}

/// How many messages may be held that are with a member or on their way to it, where it may have so many unsettled.
fn busy_max(max_in_flight: usize) -> usize {
    max_in_flight + max_in_flight.min(PREFETCH_MAX)
}

/// What the next process must know of a message that is given back: that an attempt that was counted was not made, or that
/// one was made which is not noted yet.
fn last_note<T>(entry: &Entry<T>) -> Option<Note> {
    let attempts = entry.attempts.saturating_sub(u32::from(entry.counted));
    // Its count may be on its way to the broker just now.
    let counting = entry.doubt && !entry.unread && entry.stage == Stage::Chore;
    (entry.counted || entry.unnoted || counting).then_some(Note {
        attempts,
        closed: entry.delivered,
    })
}

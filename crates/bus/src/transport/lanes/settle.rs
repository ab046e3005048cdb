//! How a delivery ends, and what the broker is told of it first.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Broker, Letter, Note,
    entry::{Entry, Stage},
    group::{Group, State},
};
use crate::{Error, Result, Settlement, Wake, dead_letter::Death};

/// When a dead letter cannot be put away, its message comes again after this time.
const BURY_AGAIN: Duration = Duration::from_secs(1);
/// Between two tries to tell the broker.
const TELL_AGAIN: Duration = Duration::from_millis(200);

impl<B: Broker> Group<B> {
    /// Ends a delivery.
    pub(super) async fn settle(self: Arc<Self>, id: B::Id, delivery: u64, settlement: Settlement) -> Result<()> {
        let open = self.begin(id, delivery)?;
        match settlement {
            Settlement::Ack => open.ack().await,
            Settlement::Retry { after } => open.retry(after).await,
            Settlement::Dead { reason } => open.dead(reason).await,
        }
    }
    /// A delivery was dropped: an attempt, to be noted before the next.
    pub(super) fn dropped(&self, id: B::Id, delivery: u64) {
        let (mut wake, now) = (Wake::default(), Instant::now());
        let mut state = self.lock();
        let Some((member, entry)) = flying(&mut state, id, delivery) else {
            return;
        };
        entry.fail(None, now);
        entry.unnoted = true;
        state.book.offer(id, now);
        self.land(&mut state, id, member, &mut wake);
    }
    fn begin(self: &Arc<Self>, id: B::Id, delivery: u64) -> Result<Open<B>> {
        let mut state = self.lock();
        let (member, entry) = flying(&mut state, id, delivery).ok_or(Error::Stale)?;
        entry.stage = Stage::Settling { member, delivery };
        drop(state);
        Ok(Open {
            group: Arc::clone(self),
            id,
            delivery,
            member,
        })
    }
    /// A delivery has ended.
    fn land(&self, state: &mut State<B>, id: B::Id, member: u64, wake: &mut Wake) {
        state.roster.land(member, wake);
        state.book.trials.end(id);
        self.announce(state, wake);
        self.work.notify_one();
    }
}

/// A message, if it is with this delivery still.
fn flying<B: Broker>(state: &mut State<B>, id: B::Id, delivery: u64) -> Option<(u64, &mut Entry<B::Token>)> {
    let entry = state.book.entry(id)?;
    match entry.stage {
        Stage::Flying { member, delivery: of } if of == delivery => Some((member, entry)),
        _ => None,
    }
}

/// A delivery whose end the broker is being told. Dropped in between, its message is delivered again.
struct Open<B: Broker> {
    group: Arc<Group<B>>,
    id: B::Id,
    delivery: u64,
    member: u64,
}

impl<B: Broker> Open<B> {
    async fn ack(self) -> Result<()> {
        let told = self.tell_done().await;
        self.finish().await;
        told
    }
    async fn dead(self, reason: String) -> Result<()> {
        let letter = self.with(|entry| Letter {
            topic: entry.topic.clone(),
            message: entry.message.clone(),
            last: Death {
                reason,
                attempts: entry.attempt(),
            },
            history: entry.history.clone(),
        })?;
        if let Err(error) = self.group.broker.bury(&letter).await {
            self.end(|state, id, now| {
                if let Some(entry) = state.book.entry(id) {
                    entry.due = Some(now + BURY_AGAIN);
                }
                state.book.offer(id, now);
            });
            return Err(error);
        }
        self.ack().await
    }
    async fn retry(self, after: Option<Duration>) -> Result<()> {
        let now = Instant::now();
        // Without a key to hold, waiting is the broker's.
        let leaves = after.is_some_and(|after| !after.is_zero()) && !self.group.lock().book.holds_key(self.id);
        let note = self.with(|entry| {
            entry.fail(after, now);
            Note {
                attempts: entry.attempts,
                closed: entry.delivered.saturating_sub(u64::from(!leaves)),
            }
        })?;
        let noted = self.group.broker.note(self.id, note).await;
        self.with(|entry| {
            entry.unnoted = noted.is_err();
            entry.noted = true;
        })?;
        if noted.is_ok() && (leaves || self.group.lock().over) {
            self.leave(after).await
        } else {
            self.end(|state, id, now| state.book.offer(id, now));
            noted
        }
    }
    /// The message goes back to the broker, which knows how often it was tried.
    async fn leave(self, after: Option<Duration>) -> Result<()> {
        let token = self.with(|entry| entry.token.clone())?;
        let told = self.group.broker.give_back(&token, after).await;
        let kept = told.is_err();
        self.end(|state, id, now| {
            if kept {
                state.book.offer(id, now);
            } else {
                state.book.finish(id, now);
            }
        });
        told
    }

    /// Tells the broker that the group is done, for as long as that makes sense.
    async fn tell_done(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            // A redelivery has renewed it, perhaps.
            let token = self.with(|entry| entry.token.clone())?;
            match self.group.broker.ack(&token).await {
                Err(error) if error.is_retryable() && self.may_tell_again(begun) => {
                    sleep(TELL_AGAIN).await;
                }
                told => return told,
            }
        }
    }
    fn may_tell_again(&self, begun: Instant) -> bool {
        begun.elapsed() < self.group.broker.patience() && !self.group.ended.is_cancelled()
    }
    async fn finish(self) {
        let mut noted = false;
        self.end(|state, id, now| noted = state.book.finish(id, now).is_some_and(|entry| entry.noted));
        if noted {
            self.group.broker.forget(self.id).await;
        }
    }
    /// Looks at the message, if it is with this delivery still.
    fn with<R>(&self, look: impl FnOnce(&mut Entry<B::Token>) -> R) -> Result<R> {
        let mut state = self.group.lock();
        let entry = self.settling(&mut state).ok_or(Error::Stale)?;
        Ok(look(entry))
    }
    fn settling<'a>(&self, state: &'a mut State<B>) -> Option<&'a mut Entry<B::Token>> {
        let entry = state.book.entry(self.id)?;
        matches!(entry.stage, Stage::Settling { delivery, .. } if delivery == self.delivery).then_some(entry)
    }
    /// Ends the delivery, once.
    fn end(&self, how: impl FnOnce(&mut State<B>, B::Id, Instant)) {
        let mut wake = Wake::default();
        let mut state = self.group.lock();
        if self.settling(&mut state).is_some() {
            how(&mut state, self.id, Instant::now());
            self.group.land(&mut state, self.id, self.member, &mut wake);
        }
    }
}

impl<B: Broker> Drop for Open<B> {
    fn drop(&mut self) {
        self.end(|state, id, now| state.book.offer_first(id, now));
    }
}

//! Does what the broker must be asked or told before a message can go on, and lets go on what is due.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{Broker, Group, book::Chore, entry::Stage, group::State};
use crate::{Result, Wake, error::chain};

/// So long after a redelivery the first attempt in doubt is made: what is given back at once comes in some order, and the
/// earliest is to be tried first.
const GATHER: Duration = Duration::from_millis(20);
/// Between two tries while the broker does not answer.
const AGAIN: std::ops::Range<Duration> = Duration::from_millis(100)..Duration::from_secs(5);

impl<B: Broker> Group<B> {
    /// Runs until it is dropped.
    pub(crate) async fn clerk(&self) {
        let mut pause = AGAIN.start;
        loop {
            let Some((id, chore)) = self.next_chore() else {
                self.rest().await;
                continue;
            };
            match self.carry_out(id, chore).await {
                Ok(()) => pause = AGAIN.start,
                Err(error) => {
                    tracing::warn!(
                        ?id,
                        ?chore,
                        error = chain(&error),
                        "a message waits: its attempts cannot be counted"
                    );
                    sleep(pause).await;
                    pause = (pause * 2).min(AGAIN.end);
                }
            }
        }
    }
    fn next_chore(&self) -> Option<(B::Id, Chore)> {
        let (mut wake, now) = (Wake::default(), Instant::now());
        let mut state = self.lock();
        state.book.promote(now);
        let has_gathered = state.gathered_by().is_none_or(|by| by <= now);
        let mut next = state.book.next_chore();
        if has_gathered {
            next = next.or_else(|| state.book.next_trial());
        }
        if state.book.has_news() {
            state.roster.wake_all(&mut wake);
            // Those that were promoted wait for the broker no more, and are busy again.
            self.work.notify_one();
        }
        next
    }
    async fn carry_out(&self, id: B::Id, chore: Chore) -> Result<()> {
        let done = match chore {
            Chore::Recall => self.broker.recall(id).await.map(Some),
            Chore::Note(note) | Chore::Count(note) => self.broker.note(id, note).await.map(|()| None),
        };
        let (mut wake, now) = (Wake::default(), Instant::now());
        let mut state = self.lock();
        if done.is_err() {
            state.book.trials.end(id);
        }
        // Gone meanwhile, where all was given back.
        let Some(entry) = state.book.entry(id) else {
            return done.map(drop);
        };
        match (&done, chore) {
            (Ok(note), Chore::Recall) => entry.recall(note.flatten()),
            (Ok(_), Chore::Note(_)) => (entry.unnoted, entry.noted) = (false, true),
            (Ok(_), Chore::Count(note)) => {
                (entry.attempts, entry.counted, entry.noted) = (note.attempts, true, true);
            }
            (Err(_), _) => (),
        }
        // Else an earlier one of its key has taken its place.
        if entry.stage == Stage::Chore && entry.counted {
            state.book.offer_first(id, now);
        } else if entry.stage == Stage::Chore {
            state.book.offer(id, now);
        }
        self.announce(&mut state, &mut wake);
        done.map(drop)
    }
    /// Until something is due, or new.
    async fn rest(&self) {
        let until = {
            let state = self.lock();
            let trials = &state.book.trials;
            let gathered = state
                .gathered_by()
                .filter(|by| trials.has_waiting() && *by > Instant::now());
            let trial = gathered.or_else(|| trials.over_by());
            state.book.next_due().into_iter().chain(trial).min()
        };
        let timer = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.chores.notified() => {}
            () = timer => {}
        }
    }
}

impl<B: Broker> State<B> {
    /// When what the broker delivered again is likely to be here.
    fn gathered_by(&self) -> Option<Instant> {
        self.redelivered.map(|at| at + GATHER)
    }
}

//! Who waits for a saga to move: told by appends of this process, and by a look at the log for those of others.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sagamill_eventstore::{Anchor, EventStore, Position};
use tokio::sync::{Notify, futures::OwnedNotified};

use crate::Result;

/// How often the log is looked at for what other processes have appended, at most.
const LOOK: Duration = Duration::from_millis(20);
/// The events that somebody may wait for.
const ENDS: [&str; 3] = ["saga.completed", "saga.compensated", "saga.parked"];

/// Those who wait, by the stream of their saga.
#[derive(Default)]
pub(crate) struct Waiters {
    waiting: Mutex<Waiting>,
    /// How far the log has been looked at, none where nobody has; held by that one of those who wait who looks for all.
    tail: tokio::sync::Mutex<Option<Anchor>>,
}

/// For each saga, how to tell those who wait, and how many they are. In order, so that a run can be repeated.
type Waiting = BTreeMap<Arc<str>, (Arc<Notify>, usize)>;

/// One who waits. Dropped, he waits no more.
pub(crate) struct Waiter<'a> {
    waiters: &'a Waiters,
    stream: Arc<str>,
    notify: Arc<Notify>,
}

impl Waiters {
    /// Joins those who wait. What comes after this is noticed.
    pub(crate) fn join(&self, stream: &Arc<str>) -> Waiter<'_> {
        let mut waiting = self.lock();
        let (notify, count) = waiting.entry(stream.clone()).or_default();
        *count += 1;
        Waiter {
            waiters: self,
            stream: stream.clone(),
            notify: notify.clone(),
        }
    }
    /// The saga has moved.
    pub(crate) fn wake(&self, stream: &str) {
        if let Some((notify, _)) = self.lock().get(stream) {
            notify.notify_waiters();
        }
    }
    fn wake_all(&self) {
        for (notify, _) in self.lock().values() {
            notify.notify_waiters();
        }
    }
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Looks at what the log has beyond the place that was looked at last, for all who wait.
    async fn look(&self, store: &EventStore, tail: &mut Option<Anchor>) -> Result<()> {
        let followed = match *tail {
            Some(from) => store.follow(crate::wire::CATEGORY, &ENDS, from).await?,
            None => None,
        };
        match followed {
            Some((ends, to)) => {
                ends.iter().for_each(|event| self.wake(event.stream.as_str()));
                *tail = Some(to);
            }
            // Nobody has looked at what came before, or the log lost its tail: each one looks at his own saga once more.
            None => {
                *tail = Some(store.head().await?);
                self.wake_all();
            }
        }
        Ok(())
    }
}

impl Waiter<'_> {
    /// What to wait on: made before the look at the saga, so that nothing is missed between the two.
    pub(crate) fn listen(&self) -> OwnedNotified {
        self.notify.clone().notified_owned()
    }
    /// Waits until the saga may have moved. One of those who wait looks at the log for all. What is asked of the database is
    /// asked to its end: a question that is given up takes its connection with it.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn moved(&self, store: &EventStore, heard: OwnedNotified) -> Result<()> {
        let mut heard = pin!(heard);
        let mut tail = tokio::select! {
            biased;
            () = &mut heard => return Ok(()),
            tail = self.waiters.tail.lock() => tail,
        };
        loop {
            self.waiters.look(store, &mut tail).await?;
            let seen = tail.map_or(Position(0), |tail| tail.position);
            let more = async {
                tokio::time::sleep(LOOK).await;
                store.wait_for(seen).await;
            };
            tokio::select! {
                biased;
                () = &mut heard => return Ok(()),
                () = more => {}
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        if let Some((_, count)) = waiting.get_mut(&self.stream) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.stream);
            }
        }
        if waiting.is_empty()
            && let Ok(mut tail) = self.waiters.tail.try_lock()
        {
            // Nobody looks from here on.
            *tail = None;
        }
    }
}

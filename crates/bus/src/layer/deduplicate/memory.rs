//! Keys of handled messages in this process, the newest of them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::fast::RandomState;
use futures_core::future::BoxFuture;
use tokio::{sync::Notify, time::Instant};

use super::{Claim, DedupeKey, DedupeStore};
use crate::BoxError;

/// Remembers keys for a time, and of them the newest. Clones share what they know, also between routers.
///
/// What has come longer ago than that is handled again when it comes again. Of two at once, the second waits.
#[derive(Debug, Clone)]
pub struct DedupeMemory {
    keys_max: usize,
    remember: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    keys: HashMap<DedupeKey, Known, RandomState>,
    /// Those that are done, oldest first, each until when.
    done: VecDeque<(Instant, DedupeKey)>,
}

#[derive(Debug)]
enum Known {
    /// Somebody is at it, and tells when that ends.
    Busy(Arc<Notify>),
    Done,
}

impl Default for DedupeMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl DedupeMemory {
    /// An hour, and of that the newest 65,536 keys.
    #[must_use]
    pub fn new() -> Self {
        Self {
            keys_max: 1 << 16,
            remember: Duration::from_hours(1),
            state: Arc::default(),
        }
    }
    /// The most keys of handled messages that are remembered.
    #[must_use]
    pub fn keys_max(self, keys_max: usize) -> Self {
        Self { keys_max, ..self }
    }
    /// How long a handled message is remembered, at most a year.
    #[must_use]
    pub fn remember(self, remember: Duration) -> Self {
        const YEAR: Duration = Duration::from_hours(24 * 365);
        Self {
            remember: remember.min(YEAR),
            ..self
        }
    }

    /// Nothing is left half done where a panic may strike.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn end(&self, key: &DedupeKey) {
        let mut state = self.state();
        state
            .keys
            .insert(key.clone(), Known::Done)
            .into_iter()
            .for_each(Known::tell);
        state.done.push_back((Instant::now() + self.remember, key.clone()));
        while state.done.len() > self.keys_max {
            state.forget_oldest();
        }
    }
}

impl State {
    fn forget_expired(&mut self, now: Instant) {
        while self.done.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }
    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.done.pop_front() {
            self.keys.remove(&key);
        }
    }
}

impl Known {
    fn tell(self) {
        if let Self::Busy(ended) = self {
            ended.notify_waiters();
        }
    }
}

impl DedupeStore for DedupeMemory {
    fn claim<'a>(&'a self, key: &'a DedupeKey) -> BoxFuture<'a, Result<Claim, BoxError>> {
        Box::pin(async move {
            loop {
                let ended = {
                    let mut state = self.state();
                    state.forget_expired(Instant::now());
                    match state.keys.get(key) {
                        Some(Known::Done) => return Ok(Claim::Done),
                        // Made under the lock: what ends after it is heard.
                        Some(Known::Busy(ended)) => Arc::clone(ended).notified_owned(),
                        None => {
                            state.keys.insert(key.clone(), Known::Busy(Arc::default()));
                            return Ok(Claim::Taken);
                        }
                    }
                };
                ended.await;
            }
        })
    }
    fn done<'a>(&'a self, key: &'a DedupeKey) -> BoxFuture<'a, Result<(), BoxError>> {
        self.end(key);
        Box::pin(std::future::ready(Ok(())))
    }
    fn release(&self, key: &DedupeKey) {
        let mut state = self.state();
        if matches!(state.keys.get(key), Some(Known::Busy(_))) {
            state.keys.remove(key).into_iter().for_each(Known::tell);
        }
    }
}

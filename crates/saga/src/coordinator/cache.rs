//! Sagas that this process has decided or read lately, so that most decisions need no read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use crate::core::{Plan, State};

/// Most sagas that are remembered.
const SAGAS_MAX: usize = 10_000;

/// One saga as it was at one version, and the definition it runs by.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) plan: Arc<Plan>,
    pub(crate) state: State,
}

/// The sagas used last, by their streams. It may be behind the log: whoever relies on it says so.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    sagas: HashMap<Arc<str>, (u64, Arc<Live>)>,
    /// The streams by when they were used.
    used: BTreeMap<u64, Arc<str>>,
    clock: u64,
}

impl Cache {
    pub(crate) fn get(&self, stream: &str) -> Option<Arc<Live>> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let (at, live) = inner.sagas.get_mut(stream)?;
        inner.clock += 1;
        if let Some(stream) = inner.used.remove(at) {
            inner.used.insert(inner.clock, stream);
        }
        *at = inner.clock;
        Some(live.clone())
    }
    /// Remembers a saga, unless a later version of it is remembered already.
    pub(crate) fn put(&self, stream: &Arc<str>, live: Arc<Live>) {
        let mut inner = self.lock();
        if inner
            .sagas
            .get(stream)
            .is_some_and(|(_, known)| known.state.version > live.state.version)
        {
            return;
        }
        inner.clock += 1;
        let now = inner.clock;
        if let Some((at, _)) = inner.sagas.insert(stream.clone(), (now, live)) {
            inner.used.remove(&at);
        }
        inner.used.insert(now, stream.clone());
        if inner.sagas.len() > SAGAS_MAX
            && let Some((_, oldest)) = inner.used.pop_first()
        {
            inner.sagas.remove(&oldest);
        }
    }
    pub(crate) fn forget(&self, stream: &str) {
        let mut inner = self.lock();
        if let Some((at, _)) = inner.sagas.remove(stream) {
            inner.used.remove(&at);
        }
    }
    /// Forgets all.
    pub(crate) fn clear(&self) {
        *self.lock() = Inner::default();
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

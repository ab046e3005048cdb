//! What a handler is to the barrier: something to run with what was asked, inside its transaction or outside.

use std::{
    any::Any,
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use sagamill_bus::BoxError;
use uuid::Uuid;

use super::{Ask, Phase};

/// What a handler came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answered {
    Done(Bytes),
    Rejected(Bytes),
}

/// What a handler is given.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) ask: Ask,
    pub(crate) command: Bytes,
    /// Of an undo: what the action replied.
    pub(crate) reply: Option<Bytes>,
    /// Set right before the user's function is called.
    pub(crate) called: Called,
}

/// Whether the user's function has been called. What failed before that has had no effect.
#[derive(Debug, Clone, Default)]
pub(crate) struct Called(Arc<AtomicBool>);

impl Called {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A handler of one command, or of one undo.
pub(crate) trait Effect: Send + Sync {
    /// Whether its effect is inside the transaction.
    fn is_transactional(&self) -> bool;
    /// Runs it once.
    fn run(&self, given: Given, slot: Slot) -> BoxFuture<'static, Result<Answered, BoxError>>;
}

/// Where a transaction lies while it is lent: a handler's `Tx` takes it out and, dropped, puts it back.
#[derive(Clone, Default)]
#[doc(hidden)]
pub struct Slot(Arc<Mutex<Option<Box<dyn Any + Send>>>>);

impl Slot {
    pub(crate) fn put(&self, transaction: Box<dyn Any + Send>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(transaction);
    }
    pub(crate) fn take(&self) -> Option<Box<dyn Any + Send>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

/// The effects that this process is at right now. A row that names this process and is not here was left by a future that
/// was dropped, so nobody needs to wait for its lease.
#[derive(Clone, Default)]
pub(crate) struct Running(Arc<Mutex<BTreeSet<(Uuid, Phase)>>>);

impl Running {
    /// None: it is being run already.
    pub(crate) fn enter(&self, effect: Uuid, phase: Phase) -> Option<Entered> {
        let entered = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((effect, phase));
        entered.then(|| Entered(self.clone(), (effect, phase)))
    }
}

/// Dropped, the effect is not being run any more.
pub(crate) struct Entered(Running, (Uuid, Phase));

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

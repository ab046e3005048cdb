//! Where keys of handled messages are kept: the seam to databases and caches.

use std::sync::Arc;

use futures_core::future::BoxFuture;

use crate::BoxError;

/// What one handler knows a message by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DedupeKey {
    /// The group and the handler: `billing/shop::thank#0`. A handler that is renamed knows nothing of what it handled before.
    pub handler: Arc<str>,
    /// The message's id, or the value of the header that was asked for.
    pub key: Arc<str>,
}

impl DedupeKey {
    /// The most bytes of a [`key`](Self::key).
    pub const MAX: usize = crate::limit::KEY;

    pub(super) fn new(handler: &Arc<str>, key: String) -> Self {
        Self {
            handler: Arc::clone(handler),
            key: key.into(),
        }
    }
}

/// What a store says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nobody had it: now this caller has, until it says [`done`](DedupeStore::done) or [`release`](DedupeStore::release).
    Taken,
    /// Somebody else has it, and is not done yet.
    Busy,
    /// Its message was handled.
    Done,
}

/// Keeps the keys of handled messages.
///
/// In a store that outlives the process, a claim ends with its holder: it has a lease, longer than any handler takes.
pub trait DedupeStore: Send + Sync + 'static {
    /// Takes a key, unless it is done. May wait for another holder in place of answering [`Claim::Busy`]. Of several callers
    /// at most one gets [`Claim::Taken`] at a time. Dropped before it is ready, it has taken nothing, or its lease ends.
    fn claim<'a>(&'a self, key: &'a DedupeKey) -> BoxFuture<'a, Result<Claim, BoxError>>;
    /// The holder has handled the message.
    fn done<'a>(&'a self, key: &'a DedupeKey) -> BoxFuture<'a, Result<(), BoxError>>;
    /// The holder has not handled the message. A key that is done stays so. Must not block; what it cannot do at once is
    /// left to the lease.
    fn release(&self, key: &DedupeKey);
}

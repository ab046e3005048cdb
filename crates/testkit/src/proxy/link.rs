//! How the line is, as the test wants it and connections see it.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::loss::{Loss, Lost, loss};

/// Losses that wait for their request at a time.
const LOSSES_MAX: usize = 64;

/// What the test has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) flow: Flow,
    pub(super) delay: Duration,
    /// How often it was cut: connections of before are gone, also where it was healed at once.
    pub(super) cuts: u64,
    /// How often connections were made half-open.
    pub(super) half_opens: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Open,
    Stalled,
    Cut,
}

/// What a proxy and its connections share.
pub(super) struct Control {
    /// `host:port`, of new connections.
    server: Mutex<String>,
    link: watch::Sender<Link>,
    losses: Mutex<Vec<Loss>>,
    connections: AtomicUsize,
}

/// A connection that counts while this lives.
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl Control {
    pub(super) fn new(server: String) -> Self {
        let link = Link {
            flow: Flow::Open,
            delay: Duration::ZERO,
            cuts: 0,
            half_opens: 0,
        };
        Self {
            server: Mutex::new(server),
            link: watch::Sender::new(link),
            losses: Mutex::default(),
            connections: AtomicUsize::new(0),
        }
    }
    pub(super) fn server(&self) -> String {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    pub(super) fn lead_to(&self, server: String) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }
    pub(super) fn change(&self, change: impl FnOnce(&mut Link)) {
        self.link.send_modify(change);
    }
    pub(super) fn watch(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }
    pub(super) fn count(&self) -> Counted<'_> {
        self.connections.fetch_add(1, Ordering::SeqCst);
        Counted(&self.connections)
    }
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits for a request with these bytes.
    pub(super) fn lose(&self, request: &[u8]) -> Lost {
        let (loss, lost) = loss(request);
        let mut losses = self.losses();
        losses.retain(Loss::is_awaited);
        assert!(losses.len() < LOSSES_MAX, "{LOSSES_MAX} losses wait for their requests");
        losses.push(loss);
        lost
    }
    /// The loss that is meant by a request, which no other is from now on.
    pub(super) fn take_loss(&self, before: &[u8], new: &[u8]) -> Option<Loss> {
        let mut losses = self.losses();
        losses.retain(Loss::is_awaited);
        let at = losses.iter().position(|loss| loss.is_meant_by(before, new))?;
        Some(losses.remove(at))
    }
    fn losses(&self) -> MutexGuard<'_, Vec<Loss>> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Control");
        shown
            .field("server", &self.server())
            .field("link", &*self.link.borrow());
        shown.field("connections", &self.connections()).finish_non_exhaustive()
    }
}

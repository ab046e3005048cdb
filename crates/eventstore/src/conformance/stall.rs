//! A process that is stopped and goes on later, as by a signal or a long pause of its machine.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_core::future::BoxFuture;
use jiff::Timestamp;
use sagamill_bus::Topic;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    Anchor, Append, Error, EventStore, Health, Lease, Position, Receipt, Recorded, Result,
    backend::{Backend, Checkpoint, Claim, Claimed, Desk, Join, Log, Member, Page, Query, Timer, Turn},
    backlog::{Backlog, Begun, Grave, Graves, Note},
    bell::Listener,
    census::{Census, Heap, Noted, Slip},
    entry::Entry,
};

/// A database as one process sees it. Stopped, nothing that is asked is answered.
pub(super) struct Stall {
    inner: Arc<dyn Backend>,
    stopped: watch::Sender<bool>,
    /// So many notes are not written, or are and nobody is told.
    failing: AtomicU32,
}

impl Stall {
    pub(super) fn of(store: &EventStore) -> Arc<Self> {
        Arc::new(Self {
            inner: store.backend().clone(),
            stopped: watch::Sender::new(false),
            failing: AtomicU32::new(0),
        })
    }
    /// The next writes of notes fail: every second is stored all the same.
    pub(super) fn fail_notes(&self, count: u32) {
        self.failing.store(count, Ordering::SeqCst);
    }
    pub(super) fn stop(&self, stopped: bool) {
        self.stopped.send_replace(stopped);
    }
    fn pass<'a, T: Send + 'a>(
        &'a self,
        ask: impl FnOnce(&'a dyn Backend) -> BoxFuture<'a, T> + Send + 'a,
    ) -> BoxFuture<'a, T> {
        Box::pin(async move {
            let mut stopped = self.stopped.subscribe();
            stopped
                .wait_for(|stopped| !stopped)
                .await
                .expect("invariant: the sender is in `self`");
            ask(&*self.inner).await
        })
    }
}

impl Log for Stall {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn log_id(&self) -> Uuid {
        self.inner.log_id()
    }
    fn new_id(&self) -> Uuid {
        self.inner.new_id()
    }
    fn new_owner(&self) -> Uuid {
        self.inner.new_owner()
    }
    fn is_gone(&self, owner: Uuid) -> BoxFuture<'_, Result<bool>> {
        self.pass(move |inner| inner.is_gone(owner))
    }
    fn flush(&self, entries: Vec<Entry>) -> BoxFuture<'_, Vec<Result<Vec<Receipt>>>> {
        self.pass(|inner| inner.flush(entries))
    }
    fn append_in<'a>(
        &'a self,
        connection: &'a mut (dyn Any + Send),
        append: Append,
        how: Join,
    ) -> BoxFuture<'a, Result<Vec<Recorded>>> {
        self.pass(move |inner| inner.append_in(connection, append, how))
    }
    fn joined(&self) -> u64 {
        self.inner.joined()
    }
    fn committed(&self, events: Vec<Recorded>, joined: u64) {
        self.inner.committed(events, joined);
    }
    fn sequenced(&self) -> BoxFuture<'_, ()> {
        self.pass(|inner| inner.sequenced())
    }
    fn read(&self, query: Query) -> BoxFuture<'_, Result<Page>> {
        self.pass(|inner| inner.read(query))
    }
    fn head(&self) -> BoxFuture<'_, Result<Anchor>> {
        self.pass(|inner| inner.head())
    }
    fn event_at(&self, position: Position) -> BoxFuture<'_, Result<Option<Uuid>>> {
        self.pass(move |inner| inner.event_at(position))
    }
    fn since(&self, time: Timestamp) -> BoxFuture<'_, Result<Position>> {
        self.pass(move |inner| inner.since(time))
    }
    fn turn(&self) -> BoxFuture<'_, Turn> {
        self.pass(|inner| inner.turn())
    }
    fn wake(&self) -> Listener {
        self.inner.wake()
    }
    fn ring(&self) {
        self.inner.ring();
    }
    fn now(&self) -> Timestamp {
        self.inner.now()
    }
    fn health(&self) -> BoxFuture<'_, Result<Health>> {
        self.pass(|inner| inner.health())
    }
    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'_, ()> {
        self.inner.sleep_until(due)
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

impl Desk for Stall {
    fn join<'a>(
        &'a self,
        name: &'a str,
        owner: Uuid,
        about: Option<&'a str>,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<Member>>> {
        self.pass(move |inner| inner.join(name, owner, about, ttl))
    }
    fn leave<'a>(&'a self, name: &'a str, owner: Uuid) -> BoxFuture<'a, Result<()>> {
        self.pass(move |inner| inner.leave(name, owner))
    }
    fn claim<'a>(&'a self, ask: &'a Claim) -> BoxFuture<'a, Result<Vec<Claimed>>> {
        self.pass(|inner| inner.claim(ask))
    }
    fn renew<'a>(&'a self, leases: &'a [Lease], ttl: Duration) -> BoxFuture<'a, Result<Vec<Lease>>> {
        self.pass(move |inner| inner.renew(leases, ttl))
    }
    fn release<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<()>> {
        self.pass(|inner| inner.release(leases))
    }
    fn save<'a>(&'a self, moves: &'a [(Lease, Anchor)]) -> BoxFuture<'a, Result<Vec<Lease>>> {
        self.pass(|inner| inner.save(moves))
    }
    fn checkpoints(&self) -> BoxFuture<'_, Result<Vec<Checkpoint>>> {
        self.pass(|inner| inner.checkpoints())
    }
    fn anchors<'a>(&'a self, name: &'a str, shard: u16) -> BoxFuture<'a, Result<Vec<Anchor>>> {
        self.pass(move |inner| inner.anchors(name, shard))
    }
    fn reset<'a>(&'a self, name: &'a str, shard: u16, to: Anchor) -> BoxFuture<'a, Result<()>> {
        self.pass(move |inner| inner.reset(name, shard, to))
    }
    fn schedule<'a>(&'a self, lease: &'a Lease, timers: &'a [Timer]) -> BoxFuture<'a, Result<()>> {
        self.pass(move |inner| inner.schedule(lease, timers))
    }
    fn unschedule<'a>(&'a self, lease: &'a Lease, ids: &'a [String]) -> BoxFuture<'a, Result<()>> {
        self.pass(move |inner| inner.unschedule(lease, ids))
    }
    fn timers<'a>(&'a self, name: &'a str, shard: u16, before: Timestamp) -> BoxFuture<'a, Result<Vec<Timer>>> {
        self.pass(move |inner| inner.timers(name, shard, before))
    }
}

impl Census for Stall {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<Heap>>> {
        self.pass(|inner| inner.topics())
    }
    fn slips<'a>(&'a self, after: Position, until: Position, mark: &'a str) -> BoxFuture<'a, Result<Vec<Slip>>> {
        self.pass(move |inner| inner.slips(after, until, mark))
    }
    fn noted<'a>(&'a self, name: &'a str, after: Position) -> BoxFuture<'a, Result<Noted>> {
        self.pass(move |inner| inner.noted(name, after))
    }
}

impl Backlog for Stall {
    fn backlog<'a>(&'a self, name: &'a str, shard: u16, after: Position) -> BoxFuture<'a, Result<Begun>> {
        self.pass(move |inner| inner.backlog(name, shard, after))
    }
    fn note<'a>(&'a self, notes: &'a [(Lease, Note)]) -> BoxFuture<'a, Result<Vec<Lease>>> {
        let less = |left: u32| left.checked_sub(1);
        let Ok(left) = self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) else {
            return self.pass(|inner| inner.note(notes));
        };
        self.pass(move |inner| {
            Box::pin(async move {
                if left % 2 == 0 {
                    inner.note(notes).await?;
                }
                Err(Error::Unknown(Arc::new(std::io::Error::other("a fault on order"))))
            })
        })
    }
    fn graveyards(&self) -> BoxFuture<'_, Result<Vec<(Topic, String, usize)>>> {
        self.pass(|inner| inner.graveyards())
    }
    fn graves<'a>(&'a self, ask: &'a Graves) -> BoxFuture<'a, Result<Vec<Grave>>> {
        self.pass(|inner| inner.graves(ask))
    }
    fn exhume(&self, number: i64) -> BoxFuture<'_, Result<bool>> {
        self.pass(move |inner| inner.exhume(number))
    }
}

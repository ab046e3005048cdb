//! The memory log: the ledger under a lock, with a clock, a bell and faults on order.

use std::sync::{Mutex, MutexGuard};

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Fault, backlog::Drawer, clock::Clock, desk::Shelf, id::Ids, ledger::Ledger};
use crate::{
    Anchor, Error, Health, Position, Receipt, Result,
    backend::{Log, Page, Query, Turn},
    bell::{Bell, Listener},
    entry::Entry,
};

type Decide = Box<dyn FnMut(usize) -> Fault + Send>;

pub(crate) struct MemoryLog {
    id: Uuid,
    ids: Ids,
    clock: Clock,
    bell: Bell,
    state: Mutex<State>,
    faults: Mutex<Option<Decide>>,
}

/// All that is stored: one lock, so that a batch and its checkpoint are one.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) shelf: Shelf,
    pub(super) drawer: Drawer,
}

impl std::fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryLog")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl MemoryLog {
    pub(super) fn new(start: Timestamp, ids: Ids) -> Self {
        Self {
            id: ids.next(start),
            ids,
            clock: Clock::starting_at(start),
            bell: Bell::new(Position(0)),
            state: Mutex::default(),
            faults: Mutex::default(),
        }
    }
    pub(super) fn jump(&self, by: SignedDuration) {
        self.clock.jump(by);
    }
    pub(super) fn on_flush(&self, decide: Decide) {
        *self.faults.lock().expect("invariant: no fault hook panics") = Some(decide);
    }
    pub(super) fn lose_tail(&self, after: Position) {
        // Nobody rings for it, as nobody does at a failover.
        self.state().ledger.lose_tail(after);
    }
    /// Held for a few steps and never across an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("invariant: nothing panics under the lock")
    }

    fn store(&self, entries: Vec<Entry>) -> Vec<Result<Vec<Receipt>>> {
        let mut state = self.state();
        let State { ledger, shelf, .. } = &mut *state;
        let now = self.clock.now();
        let results = entries
            .into_iter()
            .map(|entry| ledger.take(entry, shelf, now))
            .collect();
        let head = ledger.head().position;
        drop(state);
        self.bell.ring_at(head);
        results
    }
}

impl Log for MemoryLog {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn log_id(&self) -> Uuid {
        self.id
    }
    fn new_id(&self) -> Uuid {
        self.ids.next(self.now())
    }
    fn flush(&self, entries: Vec<Entry>) -> BoxFuture<'_, Vec<Result<Vec<Receipt>>>> {
        let count = entries.len();
        let mut hook = self.faults.lock().expect("invariant: no fault hook panics");
        let fault = hook.as_mut().map_or(Fault::None, |decide| decide(count));
        drop(hook);
        let results = match fault {
            Fault::None => self.store(entries),
            Fault::Refused => vec![
                Err(Error::Unavailable {
                    what: "a fault on order".to_owned()
                });
                count
            ],
            Fault::LostBefore => vec![Err(lost()); count],
            Fault::LostAfter => {
                self.store(entries);
                vec![Err(lost()); count]
            }
        };
        std::future::ready(results).boxed()
    }
    fn read(&self, query: Query) -> BoxFuture<'_, Result<Page>> {
        let state = self.state();
        let mut walk = state.ledger.walk(&query);
        let before = query.after.filter(|_| query.anchored.is_some()).map(Position);
        let mut page = Page {
            scanned: query.after.unwrap_or(0),
            before: before
                .and_then(|position| state.ledger.at(position))
                .map(|event| event.id),
            ..Page::default()
        };
        while page.events.len() < query.limit {
            let Some((number, event)) = walk.next() else {
                page.end = true;
                break;
            };
            page.scanned = number;
            page.anchor = Anchor {
                position: event.position,
                event: Some(event.id),
            };
            if query.wants(event) {
                page.events.push(event.clone());
            }
        }
        page.end = page.end || walk.next().is_none();
        drop(walk);
        std::future::ready(Ok(page)).boxed()
    }
    fn head(&self) -> BoxFuture<'_, Result<Anchor>> {
        std::future::ready(Ok(self.state().ledger.head())).boxed()
    }
    fn event_at(&self, position: Position) -> BoxFuture<'_, Result<Option<Uuid>>> {
        std::future::ready(Ok(self.state().ledger.at(position).map(|event| event.id))).boxed()
    }
    fn since(&self, time: Timestamp) -> BoxFuture<'_, Result<Position>> {
        std::future::ready(Ok(self.state().ledger.since(time))).boxed()
    }
    fn turn(&self) -> BoxFuture<'_, Turn> {
        std::future::ready(Turn::default()).boxed()
    }
    fn wake(&self) -> Listener {
        self.bell.listen()
    }
    fn ring(&self) {
        self.bell.ring();
    }
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
    fn health(&self) -> BoxFuture<'_, Result<Health>> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        std::future::ready(Ok(Health::of("memory", version, 0))).boxed()
    }
    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'_, ()> {
        self.clock.sleep_until(due).boxed()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

fn lost() -> Error {
    Error::Unknown(std::sync::Arc::new(std::io::Error::other("a fault on order")))
}

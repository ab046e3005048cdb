//! What was staged and may still wait for its position, as far as this process knows: so that a flush looks for it when
//! there is a reason to, and costs nothing where there is none.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// How soon staged rows are looked for that nobody has rung for: those of a transaction that was committed by other means.
const LOOK: Duration = Duration::from_millis(20);
/// And how soon, once the transaction has been open for a second.
const LOOK_LATER: Duration = Duration::from_millis(250);
const LONG: Duration = Duration::from_secs(1);
/// The pause after a drain that failed.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a reader waits for what this process has staged and committed.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Staging {
    state: Mutex<State>,
    reason: Notify,
    /// Up to which request all is done.
    done: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// Requests to look, counted.
    asked: u64,
    /// The newest transaction with staged rows of this process; 0: all of them have ended, and were looked for since.
    newest: i64,
    /// When the first of those that are open began to stage, and the last.
    since: Instant,
    last: Instant,
    /// When staged rows were last looked for.
    looked: Instant,
    /// The last drain left some.
    more: bool,
    /// When to try again after a failure.
    not_before: Option<Instant>,
}

impl Staging {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let state = State {
            asked: 0,
            newest: 0,
            since: now,
            last: now,
            looked: now,
            more: false,
            not_before: None,
        };
        Self {
            state: Mutex::new(state),
            reason: Notify::new(),
            done: watch::Sender::new(0),
        }
    }
    /// A transaction with staged rows has been committed.
    pub(super) fn ask(&self) {
        self.state().asked += 1;
        self.reason.notify_one();
    }
    /// A transaction of this process has staged rows, and is open.
    pub(super) fn expect(&self, transaction: i64) {
        let mut state = self.state();
        let now = Instant::now();
        if state.newest == 0 {
            state.since = now;
        }
        state.last = now;
        state.newest = transaction.max(state.newest);
        drop(state);
        self.reason.notify_one();
    }

    /// Whether a drain has a reason; what has been asked for so far, which it will have done.
    pub(super) fn begin(&self) -> Option<u64> {
        let state = self.state();
        let asked = state.asked > *self.done.borrow();
        (asked || state.more || state.newest > 0).then_some(state.asked)
    }
    /// A drain has taken all it saw, or as much as it may. Transactions before `oldest_running` had ended by then.
    pub(super) fn end(&self, asked: u64, full: bool, oldest_running: i64) {
        let mut state = self.state();
        state.more = full;
        state.not_before = None;
        state.looked = Instant::now();
        if !full {
            if oldest_running > state.newest {
                state.newest = 0;
            }
            drop(state);
            self.done
                .send_if_modified(|done| std::mem::replace(done, asked.max(*done)) < asked);
        }
    }
    /// A drain has failed.
    pub(super) fn fail(&self) {
        self.state().not_before = Some(Instant::now() + PAUSE);
    }

    /// Until there is a reason to drain.
    pub(super) async fn due(&self) {
        loop {
            let due = self.state().due(*self.done.borrow());
            match due {
                Some(due) if due <= Instant::now() => return,
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due) => (),
                    () = self.reason.notified() => (),
                },
                None => self.reason.notified().await,
            }
        }
    }
    /// Until all is sequenced that was asked for before.
    pub(super) async fn sequenced(&self) {
        let asked = self.state().asked;
        let mut done = self.done.subscribe();
        if *done.borrow() >= asked {
            return;
        }
        let all = done.wait_for(|done| *done >= asked);
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("what this process has staged has no positions yet; the log is read without it");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn due(&self, done: u64) -> Option<Instant> {
        let now = Instant::now();
        let due = if self.asked > done || self.more {
            now
        } else if self.newest > 0 {
            let look = if now < self.last + LONG { LOOK } else { LOOK_LATER };
            self.looked.max(self.since) + look
        } else {
            return None;
        };
        Some(self.not_before.map_or(due, |pause| pause.max(due)))
    }
}

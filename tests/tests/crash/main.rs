//! The crash tests: real processes are killed with `kill -9` at named points and at random moments, started again on the
//! same databases, and must bring every saga to its end, with exactly the effects that the ends demand.
//!
//! `dev/` kills the shop in one process on SQLite; `landscape/` kills services and coordinators that are processes of their
//! own, on PostgreSQL. `SAGAMILL_KILLS` says how many kills (default 40), and for the landscape `SAGAMILL_RANDOM`,
//! `SAGAMILL_PAUSES`, `SAGAMILL_RESTARTS` and `SAGAMILL_CUTS` how many of the other faults; `SAGAMILL_SEED` repeats a run's
//! choices.

#![expect(clippy::print_stdout, reason = "a long test says what it did")]

use std::sync::{Mutex, MutexGuard, PoisonError};

mod books;
mod dev;
mod landscape;
mod program;
mod recovery;

/// One test at a time: each keeps the whole machine busy, and how soon sagas end is told.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    // Where the other has failed, this one is run all the same.
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the environment says, else a number drawn or given here.
fn number(name: &str, default: impl FnOnce() -> u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} must be a number")),
        Err(_) => default(),
    }
}

//! The barrier: a repeat answers its first reply, an undo that comes first bars its action, an action after its undo is
//! refused. It lies in the participant's own database and is passed in the transaction of the effect.
//!
//! One row per effect and phase, whose state says all that is known:
//!
//! ```text
//! forward     (none) ──▶ started ──▶ done ──▶ undone        started: the effect is outside the database and may have happened;
//!                │          └──────▶ rejected                        owner and lease say whether somebody is at it
//!                └──▶ tombstone                             tombstone: its undo came first, it must never run
//! compensate  (none) ──▶ started ──▶ done
//! ```
//!
//! An effect inside the transaction goes from nothing to its end in one commit; `started` is then seen by nobody.

mod ask;
mod effect;
mod gate;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod row;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(all(test, feature = "sqlite"))]
mod tests;

use std::any::Any;

use futures_core::future::BoxFuture;
use jiff::Timestamp;
use sagamill_eventstore::{EventStore, NewEvent};
use uuid::Uuid;

pub(crate) use crate::core::Phase;
pub(crate) use ask::{Ask, ReplyTo, Verdict, stream};
#[expect(unreachable_pub, reason = "named in the hidden part of a public trait")]
pub use effect::Slot;
pub(crate) use effect::{Answered, Called, Effect, Given};
pub(crate) use gate::{Gate, KillPoints};
use memory::MemoryBarrier;
pub(crate) use row::{Row, State};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use sql::SqlBarrier;

use crate::Result;

/// The statements that make this crate's tables, for those who run migrations by themselves; running them again changes
/// nothing. None: the database of this scheme needs none, or is not known.
pub fn migrations(scheme: &str) -> Option<&'static str> {
    match scheme {
        #[cfg(feature = "sqlite")]
        "sqlite" => Some(sqlite::MIGRATIONS),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Some(postgres::MIGRATIONS),
        _ => None,
    }
}

/// Makes this crate's tables beside a log, where they are missing. Participants and coordinators do so by themselves.
///
/// # Errors
/// What the database says.
pub async fn migrate<D>(store: &EventStore<D>) -> Result<()> {
    of(store).migrate().await
}

/// The phase of this name.
pub(crate) fn phase(name: &str) -> Option<Phase> {
    [Phase::Forward, Phase::Compensate]
        .into_iter()
        .find(|phase| phase.as_str() == name)
}

/// Opens passages, in one database.
pub(crate) trait Barrier: Send + Sync + 'static {
    /// Makes its table, where it is not there.
    fn migrate(&self) -> BoxFuture<'_, Result<()>>;
    /// Begins a transaction.
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Passage>>>;
    /// Deletes rows first asked for before a time, at most `most`, and answers how many. A row that is `started` stays: what
    /// it asks for is in doubt.
    fn sweep(&self, before: Timestamp, most: u32) -> BoxFuture<'_, Result<u64>>;
    /// Whether a handler can work in its transaction.
    fn transactional(&self) -> bool;
}

/// One open transaction at the barrier. Dropped, it is rolled back.
pub(crate) trait Passage: Send {
    /// Writes the row down, if there is none of its effect and phase: false where there is.
    fn insert<'a>(&'a mut self, row: &'a Row) -> BoxFuture<'a, Result<bool>>;
    /// The row as it is, committed by whoever.
    fn find(&mut self, effect: Uuid, phase: Phase) -> BoxFuture<'_, Result<Option<Row>>>;
    /// Writes the row over the one that is there.
    fn update<'a>(&'a mut self, row: &'a Row) -> BoxFuture<'a, Result<()>>;
    /// Takes a row away, as if nobody had asked.
    fn remove(&mut self, effect: Uuid, phase: Phase) -> BoxFuture<'_, Result<()>>;
    /// Adds a reply to the log, with the transaction. One whose id is there already is left out.
    fn stage(&mut self, effect: Uuid, reply: NewEvent) -> BoxFuture<'_, Result<()>>;
    /// Hands the transaction over to a handler; none: there is none to share.
    fn lend(&mut self) -> Option<Box<dyn Any + Send>>;
    /// Takes it back.
    fn take_back(&mut self, transaction: Box<dyn Any + Send>) -> Result<()>;
    /// Commits.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>>;
    /// Takes back all that was written, the handler's changes too.
    fn rollback(self: Box<Self>) -> BoxFuture<'static, Result<()>>;
}

/// The barrier beside a log: in its database, or in its memory.
pub(crate) fn of<D>(store: &EventStore<D>) -> Box<dyn Barrier> {
    #[cfg(feature = "sqlite")]
    if let Some(store) = store.on::<sqlx::Sqlite>() {
        return Box::new(SqlBarrier::new(store));
    }
    #[cfg(feature = "postgres")]
    if let Some(store) = store.on::<sqlx::Postgres>() {
        return Box::new(SqlBarrier::new(store));
    }
    Box::new(MemoryBarrier::new(store.any()))
}

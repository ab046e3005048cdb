//! The databases that hold a log beside the user's own tables, as types; and what is shared with their users: the pool, and
//! transactions that are open.

use std::any::Any;

use futures_core::future::BoxFuture;

use crate::{Error, EventStore, Recorded, Result};

/// Stands for "whichever database the URL named".
#[derive(Debug, Clone, Copy)]
pub struct AnyDatabase;

/// A database that holds a log beside the user's own tables.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a database that the compiler knows to hold a log",
    note = "known are `sqlx::Sqlite` and `sqlx::Postgres`; `AnyDatabase` is what a URL opened: use `open(pool)` in place of `connect(url)`"
)]
pub trait Database: Send + Sync + 'static {
    /// sqlx's name of it.
    type Sqlx: sqlx::Database;
    /// The pool, where a store is on this database.
    fn pool(database: &AnyPool) -> Option<&sqlx::Pool<Self::Sqlx>>;
    /// A store on a pool: what [`EventStore::open`] does.
    fn attach(pool: sqlx::Pool<Self::Sqlx>) -> BoxFuture<'static, Result<EventStore<Self>>>
    where
        Self: Sized;
    /// How a transaction begins that is going to write.
    const BEGIN: &'static str;
    /// Whether one transaction at a time writes, so that a store keeps a connection for all of its own.
    const ONE_WRITER: bool = false;
    /// What it means that a statement failed, or that a commit did.
    fn error(error: sqlx::Error, committing: bool) -> Error;
    /// Whether the connection is gone, so that the same may succeed on another.
    fn is_lost(error: &sqlx::Error) -> bool {
        let _ = error;
        false
    }
    /// An error where the database would take a commit for a rollback, and say that all is well: after a statement failed.
    fn check(connection: &mut <Self::Sqlx as sqlx::Database>::Connection) -> BoxFuture<'_, Result<()>> {
        let _ = connection;
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(feature = "sqlite")]
impl Database for sqlx::Sqlite {
    type Sqlx = Self;
    fn pool(database: &AnyPool) -> Option<&sqlx::Pool<Self>> {
        match database {
            AnyPool::Sqlite(pool) => Some(pool),
            _ => None,
        }
    }
    fn attach(pool: sqlx::SqlitePool) -> BoxFuture<'static, Result<EventStore<Self>>> {
        Box::pin(crate::sqlite::attach(pool))
    }
    // A transaction that reads first and writes then may find that it cannot.
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const ONE_WRITER: bool = true;
    fn error(error: sqlx::Error, committing: bool) -> Error {
        if committing {
            crate::sqlite::of_commit(error)
        } else {
            crate::sqlite::of_sqlx(error)
        }
    }
}

#[cfg(feature = "postgres")]
impl Database for sqlx::Postgres {
    type Sqlx = Self;
    fn pool(database: &AnyPool) -> Option<&sqlx::Pool<Self>> {
        match database {
            AnyPool::Postgres(pool) => Some(pool),
            _ => None,
        }
    }
    fn attach(pool: sqlx::PgPool) -> BoxFuture<'static, Result<EventStore<Self>>> {
        Box::pin(crate::postgres::attach(pool))
    }
    // Whatever the role's default is: who waits for another transaction must see what it has committed. And whoever stands
    // still in one, on a machine that is frozen or cut off, must not keep others waiting for what it has locked.
    const BEGIN: &'static str =
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '30s'";
    fn error(error: sqlx::Error, committing: bool) -> Error {
        if committing {
            crate::postgres::of_commit(error)
        } else {
            crate::postgres::of(error)
        }
    }
    fn is_lost(error: &sqlx::Error) -> bool {
        crate::postgres::is_lost(error)
    }
    fn check(connection: &mut sqlx::PgConnection) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let nothing = sqlx::raw_sql("SELECT 1").execute(connection).await;
            nothing.map(drop).map_err(crate::postgres::of)
        })
    }
}

/// The pool beside a store, whichever database it is on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AnyPool {
    /// There is none: the log is in this process's memory.
    Memory,
    /// A SQLite file.
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::SqlitePool),
    /// A PostgreSQL database.
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
}

/// A transaction that is open: sqlx's own, the store's, or a handler's `Tx`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an open transaction on `{D}`",
    label = "expected `&mut` of a transaction on `{D}`",
    note = "`let mut tx = store.begin().await?;` opens one",
    note = "`AnyDatabase` is what a URL opened; to share a transaction with your own tables, open the store or the coordinator on their pool: `EventStore::open(pool).await?`, `Coordinator::open(pool).await?`"
)]
pub trait InTransaction<D>: Send {
    /// sqlx's connection.
    type Connection: Any + Send;
    /// The connection that the transaction is open on.
    fn connection(&mut self) -> &mut Self::Connection;
    /// A statement has just been executed on it, and all is well.
    #[doc(hidden)]
    fn is_well(&mut self) {}
    /// The store has just taken events in by a statement, and all is well. These are in the log once it is committed.
    #[doc(hidden)]
    fn has_joined(&mut self, events: Vec<Recorded>) {
        let _ = events;
        self.is_well();
    }
}
impl<D: sqlx::Database> InTransaction<D> for sqlx::Transaction<'_, D> {
    type Connection = D::Connection;
    fn connection(&mut self) -> &mut D::Connection {
        self
    }
}

//! A transaction that stands in the fair queue of its file's writers.

use std::{
    any::Any,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::{AssertSqlSafe, SqlSafeStr, pool::PoolConnection};
use sqlx_core::transaction::TransactionManager;

use crate::{
    Database, EventStore, InTransaction, Recorded, Result,
    backend::{Backend, Turn},
};

type Connection<D> = <<D as Database>::Sqlx as sqlx::Database>::Connection;
type Manager<D> = <<D as Database>::Sqlx as sqlx::Database>::TransactionManager;

/// A transaction begun by [`EventStore::begin`]. It derefs to sqlx's connection: `query.execute(&mut *tx)`. Dropped, it is
/// rolled back.
pub struct Transaction<D: Database> {
    /// None once it is on its way back.
    lent: Option<Lent<D>>,
    /// Its begin has been answered.
    has_begun: bool,
    is_open: bool,
    /// How often the connection was given out since the store's own last statement: whether what a caller executed failed,
    /// and the transaction with it, or took back what was done before, is not known here.
    given_out: usize,
    /// What has joined it and cannot have been taken back since.
    joined: Vec<Recorded>,
    /// How often events had joined any transaction when it began.
    joined_before: u64,
    backend: Arc<dyn Backend>,
    /// Dropped last, so that a rollback is on its way before the next writer's turn.
    #[expect(dead_code, reason = "it is held for its drop")]
    turn: Turn,
}

/// The connection that a store keeps for its transactions where one at a time writes: what it knows of the file stays
/// good from one to the next, and no pool is asked for it and given it back. It is out while a transaction has it.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Option<Box<dyn Any + Send>>>);

impl Kept {
    fn put(&self, connection: Option<Box<dyn Any + Send>>) -> Option<Box<dyn Any + Send>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *kept, connection)
    }
    /// Closes it.
    pub(crate) fn close(&self) {
        drop(self.put(None));
    }
}

/// A connection, and whom it goes back to.
enum Lent<D: Database> {
    Pooled(PoolConnection<D::Sqlx>),
    Kept(Box<Connection<D>>, Arc<Kept>),
}

impl<D: Database> Lent<D> {
    fn connection(&mut self) -> &mut Connection<D> {
        match self {
            Self::Pooled(connection) => connection,
            Self::Kept(connection, _) => connection,
        }
    }
    fn give_back(self) {
        if let Self::Kept(connection, to) = self {
            to.put(Some(connection));
        }
    }
}

impl<D: Database> std::fmt::Debug for Transaction<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("database", &self.backend.name())
            .finish_non_exhaustive()
    }
}

impl<D: Database> EventStore<D> {
    /// Begins a transaction for the caller's own tables and [`stage_in`](Self::stage_in), in fair turn with all other
    /// writers of this process; its commit rings the bell. The pool's own `begin` works too, but has no place in the queue,
    /// and on PostgreSQL must not be given up on its way: sqlx then hands its open transaction to the connection's next user.
    /// Do not append to this store while it is open: on SQLite that waits for it to end. PostgreSQL ends one in which nothing is
    /// asked for 30 s, so that a process that stands still keeps nobody waiting for what it has locked.
    ///
    /// On SQLite all of a store's transactions are on one connection, which it makes as its pool does and keeps.
    ///
    /// # Errors
    /// What the database says.
    pub async fn begin(&self) -> Result<Transaction<D>> {
        // A pool hands out connections that the server has closed meanwhile. Nothing has begun on them.
        let mut stale = 0..=self.pool().size();
        loop {
            let (lent, turn) = self.lend().await.map_err(|error| D::error(error, false))?;
            let mut tx = Transaction {
                lent: Some(lent),
                has_begun: false,
                // Given up on its way, it may have begun.
                is_open: true,
                given_out: 0,
                joined: Vec::new(),
                joined_before: self.backend().joined(),
                backend: self.backend().clone(),
                turn,
            };
            let begin = AssertSqlSafe(D::BEGIN).into_sql_str();
            match Manager::<D>::begin(&mut tx, Some(begin)).await {
                Ok(()) => {
                    tx.has_begun = true;
                    tx.given_out = 0;
                    return Ok(tx);
                }
                Err(error) => {
                    tx.doubt(&error);
                    if !D::is_lost(&error) || stale.next().is_none() {
                        return Err(D::error(error, false));
                    }
                }
            }
        }
    }
    /// A connection, and the turn. The connection comes first: whoever has the turn must never wait for a connection that
    /// others hold, who wait for the turn.
    async fn lend(&self) -> Result<(Lent<D>, Turn), sqlx::Error> {
        if !D::ONE_WRITER {
            let connection = self.pool().acquire().await?;
            return Ok((Lent::Pooled(connection), self.backend().turn().await));
        }
        let mut made = None;
        loop {
            if self.pool().is_closed() {
                return Err(sqlx::Error::PoolClosed);
            }
            let turn = self.backend().turn().await;
            let kept = self.kept();
            let known = kept.put(None).and_then(|connection| connection.downcast().ok());
            if let Some(connection) = known.or(made.take()) {
                return Ok((Lent::Kept(connection, kept.clone()), turn));
            }
            drop(turn);
            made = Some(Box::new(self.pool().acquire().await?.detach()));
        }
    }
}

impl<D: Database> Transaction<D> {
    /// Commits, leaves the queue, and rings the bell. Dropped on the way, it is committed or rolled back, one or the other.
    ///
    /// # Errors
    /// What the database says: nothing has been stored, or [`Error::Unknown`](crate::Error::Unknown).
    pub async fn commit(mut self) -> Result<()> {
        if self.given_out > 0 {
            self.joined.clear();
            D::check(&mut self).await?;
        }
        fail::fail_point!("log.commit.before");
        let committed = Manager::<D>::commit(&mut self).await;
        fail::fail_point!("log.commit.after");
        let committed = self.ended(committed, true);
        match &committed {
            Ok(()) => self
                .backend
                .committed(std::mem::take(&mut self.joined), self.joined_before),
            Err(_) => self.backend.ring(),
        }
        committed
    }
    /// Rolls back and leaves the queue.
    ///
    /// # Errors
    /// What the database says.
    pub async fn rollback(mut self) -> Result<()> {
        let rolled_back = Manager::<D>::rollback(&mut self).await;
        self.ended(rolled_back, false)
    }

    fn ended(&mut self, ended: Result<(), sqlx::Error>, committing: bool) -> Result<()> {
        self.is_open = ended.is_err();
        ended.map_err(|error| {
            self.doubt(&error);
            D::error(error, committing)
        })
    }
    /// A connection that failed by itself is not used again. What the database says is no such failure.
    fn doubt(&mut self, error: &sqlx::Error) {
        if let (None, Some(Lent::Kept(..))) = (error.as_database_error(), &self.lent) {
            self.lent = None;
        }
    }
}

impl<D: Database> Drop for Transaction<D> {
    fn drop(&mut self) {
        let Some(mut lent) = self.lent.take() else { return };
        if let (false, Lent::Pooled(connection)) = (self.has_begun, &mut lent) {
            // Given up on its way to the server, the begin is done there all the same, and sqlx does not count it: its next
            // user would write into a transaction that nobody ends.
            return connection.close_on_drop();
        }
        if self.is_open {
            // The rollback is what the connection does next, whoever it is given to.
            Manager::<D>::start_rollback(lent.connection());
        }
        lent.give_back();
    }
}
impl<D: Database> Deref for Transaction<D> {
    type Target = <D::Sqlx as sqlx::Database>::Connection;
    fn deref(&self) -> &Self::Target {
        match &self.lent {
            Some(Lent::Pooled(connection)) => connection,
            Some(Lent::Kept(connection, _)) => connection,
            None => unreachable!("invariant: a transaction has its connection until it ends"),
        }
    }
}
impl<D: Database> DerefMut for Transaction<D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.given_out += 1;
        let lent = self.lent.as_mut();
        lent.expect("invariant: a transaction has its connection until it ends")
            .connection()
    }
}
impl<D: Database> InTransaction<D> for Transaction<D> {
    type Connection = <D::Sqlx as sqlx::Database>::Connection;
    fn connection(&mut self) -> &mut Self::Connection {
        self
    }
    fn is_well(&mut self) {
        self.given_out = 0;
        self.joined.clear();
    }
    fn has_joined(&mut self, events: Vec<Recorded>) {
        // Given out for this very statement alone, it was not for one of the caller's.
        if std::mem::take(&mut self.given_out) > 1 {
            self.joined.clear();
        }
        self.joined.extend(events);
    }
}

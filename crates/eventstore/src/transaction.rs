//! A transaction that stands in the fair queue of its file's writers.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use sqlx::{AssertSqlSafe, SqlSafeStr};

use crate::{
    Database, EventStore, InTransaction, Result,
    backend::{Backend, Turn},
};

/// A transaction begun by [`EventStore::begin`]. It derefs to sqlx's connection: `query.execute(&mut *tx)`. Dropped, it is
/// rolled back.
pub struct Transaction<D: Database> {
    tx: sqlx::Transaction<'static, D::Sqlx>,
    /// The last statement was the caller's: whether it failed, and the transaction with it, is not known here.
    is_doubtful: bool,
    backend: Arc<dyn Backend>,
    // After the transaction, so that a rollback is on its way before the next writer's turn.
    turn: Turn,
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
    /// writers of this process; its commit rings the bell. The pool's own `begin` works too, but has no place in the queue.
    /// Do not append to this store while it is open: on SQLite that waits for it to end.
    ///
    /// # Errors
    /// What the database says.
    pub async fn begin(&self) -> Result<Transaction<D>> {
        let failed = |error| D::error(error, false);
        // A pool hands out connections that the server has closed meanwhile. Nothing has begun on them.
        let mut stale = 0..=self.pool().size();
        loop {
            // The connection comes first: whoever has the turn must never wait for a connection that others hold, who wait
            // for the turn.
            let connection = self.pool().acquire().await.map_err(failed)?;
            let turn = self.backend().turn().await;
            let begin = AssertSqlSafe(D::BEGIN).into_sql_str();
            match sqlx::Transaction::begin(connection, Some(begin)).await {
                Ok(tx) => {
                    return Ok(Transaction {
                        tx,
                        is_doubtful: false,
                        backend: self.backend().clone(),
                        turn,
                    });
                }
                Err(error) if D::is_lost(&error) && stale.next().is_some() => (),
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

impl<D: Database> Transaction<D> {
    /// Commits, leaves the queue, and rings the bell. Dropped on the way, it is committed or rolled back, one or the other.
    ///
    /// # Errors
    /// What the database says: nothing has been stored, or [`Error::Unknown`](crate::Error::Unknown).
    pub async fn commit(self) -> Result<()> {
        let Self {
            mut tx,
            is_doubtful,
            backend,
            turn,
        } = self;
        if is_doubtful {
            D::check(&mut tx).await?;
        }
        fail::fail_point!("log.commit.before");
        let committed = tx.commit().await.map_err(|error| D::error(error, true));
        fail::fail_point!("log.commit.after");
        drop(turn);
        backend.ring();
        committed
    }
    /// Rolls back and leaves the queue.
    ///
    /// # Errors
    /// What the database says.
    pub async fn rollback(self) -> Result<()> {
        self.tx.rollback().await.map_err(|error| D::error(error, false))
    }
}
impl<D: Database> Deref for Transaction<D> {
    type Target = <D::Sqlx as sqlx::Database>::Connection;
    fn deref(&self) -> &Self::Target {
        &self.tx
    }
}
impl<D: Database> DerefMut for Transaction<D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.is_doubtful = true;
        &mut self.tx
    }
}
impl<D: Database> InTransaction<D> for Transaction<D> {
    type Connection = <D::Sqlx as sqlx::Database>::Connection;
    fn connection(&mut self) -> &mut Self::Connection {
        self
    }
    fn is_well(&mut self) {
        self.is_doubtful = false;
    }
}

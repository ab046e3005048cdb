//! A transaction that stands in the fair queue of its file's writers.

use std::ops::{Deref, DerefMut};

use crate::{Database, InTransaction, Result};

/// A transaction begun by [`EventStore::begin`](crate::EventStore::begin). It derefs to sqlx's connection:
/// `query.execute(&mut *tx)`. Dropped, it is rolled back.
#[derive(Debug)]
pub struct Transaction<D: Database>(sqlx::Transaction<'static, D::Sqlx>);

impl<D: Database> Transaction<D> {
    /// Commits, leaves the queue, and rings the bell.
    ///
    /// # Errors
    /// What the database says: nothing has been stored, or [`Error::Unknown`](crate::Error::Unknown).
    pub async fn commit(self) -> Result<()> {
        todo!()
    }
    /// Rolls back and leaves the queue.
    ///
    /// # Errors
    /// What the database says.
    pub async fn rollback(self) -> Result<()> {
        todo!()
    }
}
impl<D: Database> Deref for Transaction<D> {
    type Target = <D::Sqlx as sqlx::Database>::Connection;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
impl<D: Database> DerefMut for Transaction<D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
impl<D: Database> InTransaction<D> for Transaction<D> {
    type Connection = <D::Sqlx as sqlx::Database>::Connection;
    fn connection(&mut self) -> &mut Self::Connection {
        &mut self.0
    }
}

//! The effect of a step: one row with a unique id and 64 bytes, in a user's table beside the log.

mod postgres;
pub(crate) mod sqlite;

use futures_util::future::BoxFuture;
use sagamill::eventstore::{Database, EventStore};
use uuid::Uuid;

use crate::{case::Setting, measure::Sample};

/// What an effect holds besides its id.
const PAYLOAD: &[u8] = &[7; 64];

pub(crate) type Done<'a, T = ()> = BoxFuture<'a, anyhow::Result<T>>;
pub(crate) type Connection<D> = <<D as Database>::Sqlx as sqlx::Database>::Connection;

/// A database that holds effects: how it is opened for a round, and the least that a step does in it.
pub(crate) trait Engine: Database + Sized {
    /// What one round's database lies in; it goes with this.
    type Home: Send + Sync;
    /// Whether it is a server, to which the way may be looked at.
    const IS_SERVER: bool = false;

    /// A place for an empty one.
    fn home(setting: &Setting) -> Done<'_, Self::Home>;
    /// Makes the log's tables and the user's, with so many connections for the user at most.
    fn open(home: &Self::Home, connections: u32) -> Done<'_, Effects<Self>>;
    /// The effect, in a transaction that is open.
    fn insert(connection: &mut Connection<Self>, id: Uuid) -> Done<'_>;
    /// The effect in a transaction of its own, as short as the database has it.
    fn alone(effects: Effects<Self>, id: Uuid) -> Done<'static>;
    /// The effect between statements that begin a transaction and commit it.
    fn bare(effects: Effects<Self>, id: Uuid) -> Done<'static>;
    /// The same with a barrier row before it.
    fn barred(effects: Effects<Self>, id: Uuid) -> Done<'static>;
    /// How many effects there are.
    fn count(effects: &Effects<Self>) -> Done<'_, i64>;
    /// Adds what a round of so many sagas has cost the database, which nobody uses any more.
    fn costs(_home: &Self::Home, sample: Sample, _sagas: i64) -> Done<'_, Sample> {
        Box::pin(async { Ok(sample) })
    }
    /// Ends it.
    fn leave(_home: Self::Home) -> Done<'static> {
        Box::pin(async { Ok(()) })
    }
}

/// A user's table, beside the log in one database.
#[derive(Debug)]
pub(crate) struct Effects<D: Database> {
    store: EventStore<D>,
}

impl<D: Database> Clone for Effects<D> {
    fn clone(&self) -> Self {
        Self::new(self.store.clone())
    }
}

impl<D: Database> Effects<D> {
    fn new(store: EventStore<D>) -> Self {
        Self { store }
    }
    /// The log in the same database.
    pub(crate) fn store(&self) -> &EventStore<D> {
        &self.store
    }
    /// Closes the database.
    pub(crate) async fn close(&self) {
        self.store.close().await;
        self.store.pool().close().await;
    }
}

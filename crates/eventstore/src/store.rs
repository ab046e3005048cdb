//! One log, as its users see it.

use std::marker::PhantomData;

use futures_core::future::BoxFuture;
use sagamill_bus::Event;
use uuid::Uuid;

use crate::{
    Aggregate, Anchor, Batch, Checkpoint, ExecuteError, Expected, Loaded, NewEvent, Position, Read, Receipt, Result,
    StreamId, Subscription, Transaction,
};

/// Stands for "whichever database the URL named".
#[derive(Debug, Clone, Copy)]
pub struct AnyDatabase;

/// A database that holds a log beside the user's own tables.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a database that the compiler knows to hold a log",
    note = "known is `sqlx::Sqlite`; `AnyDatabase` is what a URL opened: use `open(pool)` in place of `connect(url)`"
)]
pub trait Database: Send + Sync + 'static {
    /// sqlx's name of it.
    type Sqlx: sqlx::Database;
}
impl Database for sqlx::Sqlite {
    type Sqlx = Self;
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
    type Connection;
    /// The connection that the transaction is open on.
    fn connection(&mut self) -> &mut Self::Connection;
}
impl<D: sqlx::Database> InTransaction<D> for sqlx::Transaction<'_, D> {
    type Connection = D::Connection;
    fn connection(&mut self) -> &mut D::Connection {
        self
    }
}

/// One log. Cheap to clone.
#[derive(Debug)]
pub struct EventStore<D = AnyDatabase>(PhantomData<D>);

impl<D> Clone for EventStore<D> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl EventStore {
    /// `memory:`, `sqlite:file.db`; migrates it where needed.
    ///
    /// # Errors
    /// [`Error::UnknownScheme`](crate::Error::UnknownScheme), [`Error::FeatureOff`](crate::Error::FeatureOff), or what the
    /// database says.
    pub async fn connect(_url: &str) -> Result<Self> {
        todo!()
    }
    /// A log in this process's memory, gone with it: for tests, and the model that the others are held against. Its clock
    /// is tokio's, so it stands still where tokio's is paused.
    pub fn memory() -> Self {
        todo!()
    }
}

impl<D: Database> EventStore<D> {
    /// Opens the log on a pool that is there already, next to the user's own tables; migrates it where needed.
    ///
    /// # Errors
    /// What the database says; [`Error::Invalid`](crate::Error::Invalid) for a pool on `:memory:`, which the store's own
    /// threads could not see.
    pub async fn open(_pool: sqlx::Pool<D::Sqlx>) -> Result<Self> {
        todo!()
    }
    /// The pool it was opened on.
    pub fn pool(&self) -> &sqlx::Pool<D::Sqlx> {
        todo!()
    }
    /// Begins a transaction for the caller's own tables and `stage_in`, in fair turn with all other writers of this process;
    /// its commit rings the bell. The pool's own `begin` works too, but has no place in the queue.
    ///
    /// # Errors
    /// What the database says.
    pub async fn begin(&self) -> Result<Transaction<D>> {
        todo!()
    }
}

impl<D> EventStore<D> {
    /// Appends typed events; returns when they are durable. Idempotent only by event id, which is new here: to be able to
    /// append again after [`Error::Unknown`](crate::Error::Unknown), use [`commit`](Self::commit) with ids of one's own.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) where the stream is not as expected; limits; the database.
    pub async fn append<E: Event>(
        &self,
        _stream: impl Into<StreamId>,
        _expected: Expected,
        _events: impl IntoIterator<Item = E>,
    ) -> Result<Receipt> {
        todo!()
    }
    /// Appends to one or several streams, all or nothing, idempotent by the events' ids: a repeat gets the first receipts
    /// again, also where the expectation holds no longer. One receipt for each append. Group commit: many callers share
    /// one commit, and a culprit fails alone.
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`Error::Guarded`](crate::Error::Guarded), [`Error::Fenced`](crate::Error::Fenced),
    /// [`Error::IdReused`](crate::Error::IdReused).
    pub async fn commit(&self, _batch: impl Into<Batch> + Send) -> Result<Vec<Receipt>> {
        todo!()
    }
    /// Writes events down in the caller's transaction: they exist if and only if it commits, and get their positions then.
    /// This is the way to join; it is for facts, so it expects nothing of the stream. An event whose id is in the log
    /// already is left out: the same fact twice is one.
    pub fn stage_in<'a>(
        &'a self,
        _tx: &'a mut impl InTransaction<D>,
        _stream: impl Into<StreamId>,
        _events: impl IntoIterator<Item = NewEvent>,
    ) -> BoxFuture<'a, Result<()>> {
        todo!()
    }
    /// Appends in the caller's transaction, which fails if the stream is not as expected. For low rates.
    pub fn append_in_checked<'a>(
        &'a self,
        _tx: &'a mut impl InTransaction<D>,
        _stream: impl Into<StreamId>,
        _expected: Expected,
        _events: impl IntoIterator<Item = NewEvent>,
    ) -> BoxFuture<'a, Result<()>> {
        todo!()
    }
    /// Says that a transaction with staged events has been committed by other means than [`Transaction::commit`]: readers
    /// of this process look at once.
    pub fn ring(&self) {
        todo!()
    }
    /// Reads one stream, as bytes.
    pub fn read(&self, _stream: impl Into<StreamId>) -> Read {
        todo!()
    }
    /// Reads one stream, as typed events; one of another type is [`Error::Codec`](crate::Error::Codec).
    pub fn read_as<E: Event>(&self, _stream: impl Into<StreamId>) -> Read<E> {
        todo!()
    }
    /// Reads the whole log, in commit order.
    pub fn read_all(&self) -> Read {
        todo!()
    }
    /// The last event.
    ///
    /// # Errors
    /// What the database says.
    pub async fn head(&self) -> Result<Anchor> {
        todo!()
    }
    /// Names this log for ever.
    pub fn log_id(&self) -> Uuid {
        todo!()
    }
    /// Waits until there is something after this position. A hint: it may return early.
    pub async fn wait_for(&self, _after: Position) {
        todo!()
    }
    /// The log's clock.
    pub fn now(&self) -> jiff::Timestamp {
        todo!()
    }
    /// Waits by the log's clock.
    pub async fn sleep_until(&self, _due: jiff::Timestamp) {
        todo!()
    }
    /// Loads an aggregate from its events.
    ///
    /// # Errors
    /// [`Error::Codec`](crate::Error::Codec) for an event that does not fit its type; the database.
    pub async fn load<A: Aggregate>(&self, _id: impl ToString) -> Result<Loaded<A>> {
        todo!()
    }
    /// Loads, decides, appends; again when somebody else came first.
    ///
    /// # Errors
    /// [`ExecuteError::Refused`] is the aggregate's own no.
    pub async fn execute<A: Aggregate>(
        &self,
        _id: impl ToString,
        _command: A::Command,
    ) -> Result<Option<Receipt>, ExecuteError<A::Error>> {
        todo!()
    }
    /// A named subscription.
    pub fn subscribe(&self, _name: impl Into<String>) -> Subscription {
        todo!()
    }
    /// How far every subscription is.
    ///
    /// # Errors
    /// What the database says.
    pub async fn checkpoints(&self) -> Result<Vec<Checkpoint>> {
        todo!()
    }
    /// Where a diverged subscription goes on: at the last anchor that it shares with this log. What was read after it and
    /// is not in this log is lost; what is in this log is read again.
    ///
    /// # Errors
    /// What the database says.
    pub async fn rewind(&self, _name: &str) -> Result<()> {
        todo!()
    }
    /// Forgets which database it is, for whoever takes any store.
    pub fn any(&self) -> EventStore {
        EventStore(PhantomData)
    }
    /// Stops the appender and the store's own threads, after what they are at.
    pub async fn close(&self) {
        todo!()
    }
}

//! One log, as its users see it.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use futures_core::future::BoxFuture;
use sagamill_bus::Event;
use uuid::Uuid;

use crate::{
    Anchor, AnyDatabase, AnyPool, Append, Batch, Checkpoint, Database, Error, Expected, Health, InTransaction, Member,
    NewEvent, Position, Read, Receipt, Recorded, Result, StreamId, Subscription,
    appender::Appender,
    backend::{Backend, Join, Query, TTL_MAX},
    entry::Entry,
    health::lags,
    subscription,
    transaction::Kept,
};

/// Most events that are followed at a time.
const FOLLOWED: usize = 500;

/// One log. Cheap to clone; the last clone that goes ends its appender and its threads.
pub struct EventStore<D = AnyDatabase> {
    inner: Arc<Inner>,
    database: PhantomData<fn() -> D>,
}

struct Inner {
    backend: Arc<dyn Backend>,
    appender: Appender,
    pool: AnyPool,
    kept: Arc<Kept>,
}

impl<D> Clone for EventStore<D> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            database: PhantomData,
        }
    }
}

impl<D> std::fmt::Debug for EventStore<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let backend = &self.inner.backend;
        f.debug_struct("EventStore")
            .field("database", &backend.name())
            .field("log", &backend.log_id())
            .finish()
    }
}

impl EventStore {
    /// `memory:`, `sqlite:file.db`, `postgres://user@host/database`; migrates it where needed.
    ///
    /// # Errors
    /// [`Error::UnknownScheme`], [`Error::FeatureOff`], or what the database says.
    pub async fn connect(url: &str) -> Result<Self> {
        match url.split_once(':').map_or(url, |(scheme, _)| scheme) {
            "memory" => Ok(Self::memory()),
            #[cfg(feature = "sqlite")]
            "sqlite" => crate::sqlite::connect(url).await,
            #[cfg(not(feature = "sqlite"))]
            "sqlite" => Err(Error::FeatureOff {
                scheme: "sqlite".to_owned(),
                feature: "sqlite",
            }),
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => crate::postgres::connect(url).await,
            #[cfg(not(feature = "postgres"))]
            "postgres" | "postgresql" => Err(Error::FeatureOff {
                scheme: "postgres".to_owned(),
                feature: "postgres",
            }),
            scheme => Err(Error::UnknownScheme {
                scheme: scheme.to_owned(),
            }),
        }
    }
    /// A log in this process's memory, gone with it: for tests, and the model that the others are held against. Its clock
    /// is tokio's, so it stands still where tokio's is paused. [`Memory`](crate::Memory) has more: several stores on one
    /// log, faults, a clock that jumps.
    pub fn memory() -> Self {
        crate::Memory::new().open()
    }
}

impl<D: Database> EventStore<D> {
    /// Opens the log on a pool that is there already, next to the user's own tables; migrates it where needed.
    ///
    /// # Errors
    /// What the database says; [`Error::Invalid`] for a pool on `:memory:`, which the store's own threads could not see.
    pub async fn open(pool: sqlx::Pool<D::Sqlx>) -> Result<Self> {
        D::attach(pool).await
    }
    /// The pool it was opened on.
    pub fn pool(&self) -> &sqlx::Pool<D::Sqlx> {
        D::pool(&self.inner.pool).expect("invariant: a store is of the database that its pool is of")
    }
}

impl<D> EventStore<D> {
    pub(crate) fn over(backend: Arc<dyn Backend>, pool: AnyPool) -> Self {
        let appender = Appender::new(backend.clone());
        Self {
            inner: Arc::new(Inner {
                backend,
                appender,
                pool,
                kept: Arc::default(),
            }),
            database: PhantomData,
        }
    }
    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.inner.backend
    }
    pub(crate) fn kept(&self) -> &Arc<Kept> {
        &self.inner.kept
    }
    /// Appends typed events; returns when they are durable. Idempotent only by event id, which is new here: to be able to
    /// append again after [`Error::Unknown`], use [`commit`](Self::commit) with ids of one's own.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the stream is not as expected; limits; the database.
    pub async fn append<E: Event>(
        &self,
        stream: impl Into<StreamId>,
        expected: Expected,
        events: impl IntoIterator<Item = E>,
    ) -> Result<Receipt> {
        let events = events
            .into_iter()
            .map(|event| NewEvent::of(&event))
            .collect::<Result<_>>()?;
        let receipts = self
            .commit(Append {
                stream: stream.into(),
                expected,
                events,
            })
            .await?;
        Ok(receipts[0])
    }
    /// Appends to one or several streams, all or nothing, idempotent by the events' ids: a repeat gets the first receipts
    /// again, also where the expectation holds no longer. One receipt for each append. Group commit: many callers share
    /// one commit, and a culprit fails alone. Dropped while it waits, it may still be stored.
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`Error::Guarded`], [`Error::Fenced`], [`Error::IdReused`].
    pub async fn commit(&self, batch: impl Into<Batch> + Send) -> Result<Vec<Receipt>> {
        let entry = Entry::new(batch.into())?;
        if entry.batch.appends.is_empty() && entry.batch.tracking.is_none() {
            return Ok(Vec::new());
        }
        self.inner.appender.append(entry).await
    }
    /// Writes events down in the caller's transaction: they exist if and only if it commits, and get their positions then,
    /// or right after it. This is the way to join; it is for facts, so it expects nothing of the stream. An event whose id is
    /// in the log already is left out: the same fact twice is one.
    ///
    /// What this process does with this store after [`Transaction::commit`](crate::Transaction::commit) finds them at their
    /// places: reads and appends wait for that where they must.
    pub fn stage_in<'a>(
        &'a self,
        tx: &'a mut impl InTransaction<D>,
        stream: impl Into<StreamId>,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> BoxFuture<'a, Result<()>> {
        self.append_in(tx, stream.into(), Expected::Any, events, Join::Staged)
    }
    /// Appends in the caller's transaction, which fails if the stream is not as expected. For low rates.
    ///
    /// # Errors
    /// [`Error::Conflict`] now, or where the database says so only then, at commit; [`Error::Repeated`] where the events are
    /// in the log already, and with them the effect of the transaction that they were appended in.
    pub fn append_in_checked<'a>(
        &'a self,
        tx: &'a mut impl InTransaction<D>,
        stream: impl Into<StreamId>,
        expected: Expected,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> BoxFuture<'a, Result<()>> {
        self.append_in(tx, stream.into(), expected, events, Join::Checked)
    }
    fn append_in<'a>(
        &'a self,
        tx: &'a mut impl InTransaction<D>,
        stream: StreamId,
        expected: Expected,
        events: impl IntoIterator<Item = NewEvent>,
        how: Join,
    ) -> BoxFuture<'a, Result<()>> {
        let append = Append {
            stream,
            expected,
            events: events.into_iter().collect(),
        };
        Box::pin(async move {
            let joined = self.inner.backend.append_in(tx.connection(), append, how).await?;
            tx.has_joined(joined);
            Ok(())
        })
    }
    /// Says that a transaction with staged events has been committed by other means than
    /// [`Transaction::commit`](crate::Transaction::commit): readers of this process look at once.
    pub fn ring(&self) {
        self.inner.backend.ring();
    }
    /// Reads one stream, as bytes.
    pub fn read(&self, stream: impl Into<StreamId>) -> Read {
        Read::new(
            self.inner.backend.clone(),
            Query {
                stream: Some(stream.into()),
                ..Query::default()
            },
        )
    }
    /// Reads one stream, as typed events; one of another type is [`Error::Codec`].
    pub fn read_as<E: Event>(&self, stream: impl Into<StreamId>) -> Read<E> {
        Read::typed(
            self.inner.backend.clone(),
            Query {
                stream: Some(stream.into()),
                ..Query::default()
            },
        )
    }
    /// Reads the whole log, in commit order.
    pub fn read_all(&self) -> Read {
        Read::new(self.inner.backend.clone(), Query::default())
    }
    /// The last event.
    ///
    /// # Errors
    /// What the database says.
    pub async fn head(&self) -> Result<Anchor> {
        self.inner.backend.sequenced().await;
        self.inner.backend.head().await
    }
    /// Names this log for ever.
    pub fn log_id(&self) -> Uuid {
        self.inner.backend.log_id()
    }
    /// A new id, for what has none that follows from its cause: a process, an owner of leases. Unique, but no secret; a
    /// log in memory draws it from its seed, where it was given one.
    pub fn new_id(&self) -> Uuid {
        self.inner.backend.new_id()
    }
    /// A new id for what is at work here under leases. Where the database can tell, others learn from it whether this store
    /// is still there, and need not wait for the end of a lease.
    pub fn new_owner(&self) -> Uuid {
        self.inner.backend.new_owner()
    }
    /// Whether the store that made this [owner](Self::new_owner) is known to be gone, with its process or without. False
    /// where it lives, and where that cannot be known.
    ///
    /// # Errors
    /// What the database says.
    pub async fn is_gone(&self, owner: Uuid) -> Result<bool> {
        self.inner.backend.is_gone(owner).await
    }
    /// Waits until there is something after this position. A hint: it may return early. Cancel-safe: nothing is asked of the
    /// database.
    pub async fn wait_for(&self, after: Position) {
        // What is appended from here on rings, and what others appended before anybody listened does soon.
        let mut bell = self.inner.backend.wake();
        if bell.last() <= after {
            bell.rung().await;
        }
    }
    /// The events of some types that follow on a place in the log, a page of them at most, and the place to go on from: for
    /// those who wait for something, and mostly from memory. None: the log has another event at that place.
    ///
    /// # Errors
    /// What the database says.
    #[doc(hidden)]
    pub async fn follow(
        &self,
        category: &str,
        types: &[&str],
        from: Anchor,
    ) -> Result<Option<(Vec<Recorded>, Anchor)>> {
        let query = Query {
            category: Some(category.to_owned()),
            names: types.iter().map(|&name| name.to_owned()).collect(),
            after: Some(from.position.0),
            anchored: Some(from),
            limit: FOLLOWED,
            ..Query::default()
        };
        let page = self.inner.backend.read(query).await?;
        if !page.follows(from) {
            return Ok(None);
        }
        let has_moved = page.anchor.position > from.position;
        Ok(Some((page.events, if has_moved { page.anchor } else { from })))
    }
    /// The log's clock.
    pub fn now(&self) -> jiff::Timestamp {
        self.inner.backend.now()
    }
    /// When this store was opened and no other process was at the log: whoever is named in it as being at work before that
    /// time is dead. None where somebody was there, or where it cannot be known.
    pub fn alone_since(&self) -> Option<jiff::Timestamp> {
        self.inner.backend.alone_since()
    }
    /// Waits by the log's clock.
    pub async fn sleep_until(&self, due: jiff::Timestamp) {
        self.inner.backend.sleep_until(due).await;
    }
    /// Says that a process is at work under a name for so long, at most 5 minutes, and what it says of itself, as JSON. Said
    /// again in time, it goes on. Answers all that have said so, this one among them.
    ///
    /// # Errors
    /// What the database says.
    pub async fn join(&self, name: &str, process: Uuid, about: &str, time: Duration) -> Result<Vec<Member>> {
        let backend = &self.inner.backend;
        backend.join(name, process, Some(about), time.min(TTL_MAX)).await
    }
    /// Takes that back.
    ///
    /// # Errors
    /// What the database says.
    pub async fn leave(&self, name: &str, process: Uuid) -> Result<()> {
        self.inner.backend.leave(name, process).await
    }
    /// A named subscription.
    pub fn subscribe(&self, name: impl Into<String>) -> Subscription {
        Subscription::new(self.inner.backend.clone(), name)
    }
    /// How far every subscription is.
    ///
    /// # Errors
    /// What the database says.
    pub async fn checkpoints(&self) -> Result<Vec<Checkpoint>> {
        self.inner.backend.checkpoints().await
    }
    /// How the log and its database are, for operators.
    ///
    /// # Errors
    /// What the database says.
    pub async fn health(&self) -> Result<Health> {
        let backend = &self.inner.backend;
        let (mut health, head) = (backend.health().await?, backend.head().await?);
        health.subscriptions = lags(&backend.checkpoints().await?, head, backend.now());
        health.head = head;
        Ok(health)
    }
    /// Lets a subscription go on whose log went another way ([`Error::LogDiverged`]): at the last of its places that were kept
    /// and that both histories share. A place is kept once a second while it moves, and 64 of each shard; where none is
    /// shared, it goes on at the beginning. What this log has after it is handed out, also what was handed out before; what is
    /// lost here, it has had. Answers how many of its shards were moved.
    ///
    /// # Errors
    /// What the database says.
    pub async fn rewind(&self, name: &str) -> Result<usize> {
        subscription::settle(&*self.inner.backend, name, subscription::Verdict::Rewind).await
    }
    /// Lets a subscription go on whose log went another way, behind the position that it had come to: what this log has up
    /// to there is never handed out. Answers how many of its shards were moved.
    ///
    /// # Errors
    /// What the database says.
    pub async fn accept(&self, name: &str) -> Result<usize> {
        subscription::settle(&*self.inner.backend, name, subscription::Verdict::Accept).await
    }
    /// Forgets which database it is, for whoever takes any store.
    pub fn any(&self) -> EventStore {
        EventStore {
            inner: self.inner.clone(),
            database: PhantomData,
        }
    }
    /// The same store as one of this database, where it is on it: `store.on::<sqlx::Sqlite>()` can begin a transaction,
    /// whether it was opened by URL or on a pool.
    pub fn on<B: Database>(&self) -> Option<EventStore<B>> {
        B::pool(&self.inner.pool).map(|_| EventStore {
            inner: self.inner.clone(),
            database: PhantomData,
        })
    }
    /// The pool beside the log: the one it was opened on, or its own where a URL was given.
    pub fn database(&self) -> &AnyPool {
        &self.inner.pool
    }
    /// Stops the appender and the store's own threads, after what they are at. Appends after it are
    /// [`Error::ShutDown`].
    pub async fn close(&self) {
        self.inner.appender.close().await;
        self.inner.kept.close();
        self.inner.backend.close().await;
    }
}

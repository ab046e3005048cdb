//! The log's seam, on a file.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use sqlx::SqlitePool;
use uuid::Uuid;

use super::{crew::Crew, failure, file::File, join, presence::Presence, read, reader::Reader, write};
use crate::{
    Anchor, Append, Error, Health, Position, Receipt, Recorded, Result,
    backend::{Join, Log, Page, Query, Turn, micros},
    bell::Listener,
    entry::Entry,
};

/// How long the writer stays away from the file after it had to wait for another process: SQLite's own queue is none, and
/// who flushes back to back would keep the others out.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a wait for a time sleeps before it looks at the clock again.
const NAP: Duration = Duration::from_secs(60);

pub(crate) struct SqliteLog {
    id: Uuid,
    file: Arc<File>,
    writer: Crew<Connection>,
    readers: Crew<Reader>,
    /// The last flush had to wait for another process.
    contended: Arc<AtomicBool>,
    /// The store's own pool, where it was not given one.
    pool: Option<SqlitePool>,
    presence: Option<Presence>,
}

impl SqliteLog {
    pub(super) fn new(id: Uuid, file: Arc<File>, writer: Crew<Connection>, readers: Crew<Reader>) -> Self {
        Self {
            id,
            file,
            writer,
            readers,
            contended: Arc::default(),
            pool: None,
            presence: None,
        }
    }
    pub(super) fn present(self, presence: Presence) -> Self {
        Self {
            presence: Some(presence),
            ..self
        }
    }
    pub(super) fn owning(self, pool: SqlitePool) -> Self {
        Self {
            pool: Some(pool),
            ..self
        }
    }
    /// Reads on a thread of the store's own.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.readers
            .run(|reader| reader.for_rows().and_then(job))
            .await?
            .map_err(failure::of)
    }
    /// Writes in a transaction on the store's own writer, in turn with all others of this process.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.file.turn().await;
        let change = move |connection: &mut Connection| {
            let tx = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(failure::of)?;
            let done = job(&tx).map_err(failure::of)?;
            tx.commit().map_err(failure::of_committing)?;
            drop(turn);
            Ok(done)
        };
        self.writer.run(change).await?
    }

    async fn store(&self, entries: Vec<Entry>) -> Vec<Result<Vec<Receipt>>> {
        let count = entries.len();
        let turn = self.file.turn().await;
        let (file, contended) = (self.file.clone(), self.contended.clone());
        // The turn goes with the job: a flush whose store is gone keeps it until it is done.
        let flush = move |connection: &mut Connection| {
            if contended.swap(false, Ordering::Relaxed) {
                std::thread::sleep(PAUSE);
            }
            let answers = write::flush(connection, &entries, &contended);
            let stored = entries.into_iter().zip(&answers);
            file.committed(
                stored
                    .filter_map(|(entry, answer)| Some(answer.as_ref().ok()?.recorded(entry.batch)))
                    .flatten(),
            );
            drop(turn);
            let answers: Vec<_> = answers
                .into_iter()
                .map(|answer| answer.map(|stored| stored.receipts))
                .collect();
            let receipts = answers.iter().flatten().flatten();
            if let Some(head) = receipts.map(|receipt| receipt.last).max() {
                file.ring(Some(head));
            }
            answers
        };
        let answers = self.writer.run(flush).await;
        answers.unwrap_or_else(|error| vec![Err(error); count])
    }
}

impl Log for SqliteLog {
    fn name(&self) -> &'static str {
        "sqlite"
    }
    fn log_id(&self) -> Uuid {
        self.id
    }
    fn flush(&self, entries: Vec<Entry>) -> BoxFuture<'_, Vec<Result<Vec<Receipt>>>> {
        self.store(entries).boxed()
    }
    fn append_in<'a>(
        &'a self,
        connection: &'a mut (dyn Any + Send),
        append: Append,
        how: Join,
    ) -> BoxFuture<'a, Result<Vec<Recorded>>> {
        let Some(connection) = connection.downcast_mut() else {
            let what = "this log is in a SQLite file: it is joined in a transaction on that".to_owned();
            return std::future::ready(Err(Error::Invalid { what })).boxed();
        };
        self.file.joins();
        join::join(connection, append, how).boxed()
    }
    fn joined(&self) -> u64 {
        self.file.joined()
    }
    fn committed(&self, events: Vec<Recorded>, joined: u64) {
        let last = events.last().map(|event| event.position);
        if last.is_some() {
            self.file.committed(events.into_iter());
        }
        // Where nothing joined, the log has not grown.
        if last.is_some() || joined != self.file.joined() {
            self.file.ring(last);
        }
    }
    fn read(&self, query: Query) -> BoxFuture<'_, Result<Page>> {
        if let Some(page) = self.file.page(&query) {
            return std::future::ready(Ok(page)).boxed();
        }
        async move {
            self.readers
                .run(move |reader| {
                    let connection = if read::is_scan(&query) {
                        reader.for_scan()
                    } else {
                        reader.for_rows()
                    };
                    read::page(connection?, &query)
                })
                .await?
                .map_err(failure::of)
        }
        .boxed()
    }
    fn head(&self) -> BoxFuture<'_, Result<Anchor>> {
        self.query(read::head).boxed()
    }
    fn event_at(&self, position: Position) -> BoxFuture<'_, Result<Option<Uuid>>> {
        self.query(move |connection| read::event_at(connection, position))
            .boxed()
    }
    fn since(&self, time: Timestamp) -> BoxFuture<'_, Result<Position>> {
        self.query(move |connection| read::since(connection, time)).boxed()
    }
    fn turn(&self) -> BoxFuture<'_, Turn> {
        self.file.turn().map(Turn::of).boxed()
    }
    fn wake(&self) -> Listener {
        self.file.listen()
    }
    fn ring(&self) {
        self.file.ring(None);
    }
    fn alone_since(&self) -> Option<Timestamp> {
        self.presence.as_ref()?.alone_since
    }
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(micros()).unwrap_or(Timestamp::MAX)
    }
    fn health(&self) -> BoxFuture<'_, Result<Health>> {
        self.query(read::health).boxed()
    }
    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'_, ()> {
        async move {
            // In pieces, because the system's clock may be set while this waits.
            while let Ok(left) = Duration::try_from(due.duration_since(self.now())).map(|left| left.min(NAP)) {
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left).await;
            }
        }
        .boxed()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.writer.close().await;
            self.readers.close().await;
            if let Some(pool) = &self.pool {
                pool.close().await;
            }
        }
        .boxed()
    }
}

//! The baseline: prepared statements over SQLite's C API, with the log's own tables, indexes and durability.

use std::path::Path;

use anyhow::anyhow;
use rusqlite::{CachedStatement, Connection, TransactionBehavior, params};
use sagamill::eventstore::{Dialect, NewEvent, migrations};
use tokio::sync::{mpsc, oneshot};

/// Rows that wait for the bare group commit, and the most that share a transaction.
const WAITING: usize = 1_024;

/// One row of the log.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) stream: String,
    pub(crate) version: i64,
    pub(crate) event: NewEvent,
}

/// Opens a file as the store does, and makes the store's tables in it.
pub(crate) fn open(path: &Path) -> anyhow::Result<Connection> {
    let connection = connect(path)?;
    for migration in migrations(Dialect::Sqlite) {
        connection.execute_batch(migration.sql)?;
    }
    Ok(connection)
}

/// Opens a file as the store does.
pub(crate) fn connect(path: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    connection.pragma_update(None, "cache_size", -65_536)?;
    connection.pragma_update(None, "mmap_size", 256 << 20)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// Stores rows in one transaction.
pub(crate) fn insert(connection: &mut Connection, rows: &[Row]) -> anyhow::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut statement = statement(&tx)?;
        for row in rows {
            let event = &row.event;
            statement.execute(params![
                row.version,
                &event.id.as_bytes()[..],
                row.stream,
                event.name,
                &event.payload[..]
            ])?;
        }
    }
    tx.commit()?;
    Ok(())
}

fn statement(connection: &Connection) -> anyhow::Result<CachedStatement<'_>> {
    Ok(connection.prepare_cached(
        "INSERT INTO es_event (version, recorded_at, event_id, stream_id, type, payload)
         VALUES (?1, 1, ?2, ?3, ?4, ?5)",
    )?)
}

/// The shortest way from many callers to one writer: a queue, and a thread that commits what waits in it.
#[derive(Debug, Clone)]
pub(crate) struct GroupCommit(mpsc::Sender<(Row, oneshot::Sender<()>)>);

impl GroupCommit {
    /// Starts the writer. It ends when the last handle is dropped.
    pub(crate) fn start(mut connection: Connection) -> Self {
        let (rows, mut queue) = mpsc::channel::<(Row, oneshot::Sender<()>)>(WAITING);
        std::thread::spawn(move || {
            while let Some(first) = queue.blocking_recv() {
                let (mut batch, mut waiting) = (vec![first.0], vec![first.1]);
                while batch.len() < WAITING
                    && let Ok((row, answer)) = queue.try_recv()
                {
                    batch.push(row);
                    waiting.push(answer);
                }
                // Callers see that the writer is gone by their answer, which is dropped.
                if let Err(error) = insert(&mut connection, &batch) {
                    eprintln!("the baseline failed: {error:#}");
                    return;
                }
                for answer in waiting {
                    let _ = answer.send(());
                }
            }
        });
        Self(rows)
    }
    /// Stores a row; returns when it is durable.
    pub(crate) async fn insert(&self, row: Row) -> anyhow::Result<()> {
        let (answer, answered) = oneshot::channel();
        self.0
            .send((row, answer))
            .await
            .map_err(|_| anyhow!("the baseline's writer is gone"))?;
        Ok(answered.await?)
    }
}

//! A service's own database file.

use std::{path::Path, time::Duration};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

/// How long a writer waits for another process's write; writers of one process queue in the store.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Most connections to one file: readers beside the one writer.
const CONNECTIONS: u32 = 8;

/// Opens a SQLite file, made where it is missing: write-ahead log, every commit on disk before it returns, foreign keys
/// held.
///
/// # Errors
/// What SQLite says: the directory is missing, the file is no database, the disk is full.
pub async fn open_sqlite(file: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT);
    SqlitePoolOptions::new()
        .max_connections(CONNECTIONS)
        .connect_with(options)
        .await
}

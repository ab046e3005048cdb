//! The effect of a step: one row with a unique id and 64 bytes.

use std::path::Path;

use anyhow::Context as _;
use sagamill::eventstore::EventStore;
use sqlx::{
    Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use crate::case::database;

const TABLES: &str = "
CREATE TABLE effect (id BLOB PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE bare_reply (id BLOB PRIMARY KEY, payload BLOB NOT NULL);";

/// A user's table, beside the log in one file.
#[derive(Debug, Clone)]
pub(crate) struct Effects {
    store: EventStore<Sqlite>,
}

impl Effects {
    /// Makes the file, the log's tables and the user's.
    pub(crate) async fn open(folder: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(database(folder))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new()
            .max_connections(10)
            .connect_with(options)
            .await?;
        sqlx::raw_sql(TABLES).execute(&pool).await?;
        let barrier = sagamill::saga::migrations("sqlite").context("there is a barrier on SQLite")?;
        sqlx::raw_sql(barrier).execute(&pool).await?;
        Ok(Self {
            store: EventStore::open(pool).await?,
        })
    }
    /// The log in the same file.
    pub(crate) fn store(&self) -> &EventStore<Sqlite> {
        &self.store
    }
    /// The effect, in a transaction that is open.
    pub(crate) async fn insert(&self, connection: &mut SqliteConnection, id: Uuid) -> anyhow::Result<()> {
        sqlx::query("INSERT OR IGNORE INTO effect (id, payload) VALUES (?1, ?2)")
            .bind(id)
            .bind(&[7_u8; 64][..])
            .execute(connection)
            .await?;
        Ok(())
    }
    /// How many there are.
    pub(crate) async fn count(&self) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM effect")
            .fetch_one(self.store.pool())
            .await?)
    }
    /// Closes the file.
    pub(crate) async fn close(&self) {
        self.store.close().await;
        self.store.pool().close().await;
    }
}

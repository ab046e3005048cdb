//! Effects in a SQLite file.

use std::path::Path;

use anyhow::Context as _;
use sagamill::eventstore::EventStore;
use sqlx::{
    Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Done, Effects, Engine, PAYLOAD};
use crate::case::{Setting, database};

const TABLES: &str = "
CREATE TABLE effect (id BLOB PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE bare_reply (id BLOB PRIMARY KEY, payload BLOB NOT NULL);";
/// One file has one writer, and more readers than these wait for it.
const CONNECTIONS: u32 = 10;

impl Engine for Sqlite {
    type Home = TempDir;

    fn home(setting: &Setting) -> Done<'_, TempDir> {
        Box::pin(async { setting.fresh() })
    }
    fn open(home: &TempDir, connections: u32) -> Done<'_, Effects<Self>> {
        Box::pin(open(home.path(), connections.min(CONNECTIONS)))
    }
    fn insert(connection: &mut SqliteConnection, id: Uuid) -> Done<'_> {
        Box::pin(async move {
            sqlx::query("INSERT OR IGNORE INTO effect (id, payload) VALUES (?1, ?2)")
                .bind(id)
                .bind(PAYLOAD)
                .execute(connection)
                .await?;
            Ok(())
        })
    }
    /// Not by a statement alone: whoever writes without its turn is told that the file is busy.
    fn alone(effects: Effects<Self>, id: Uuid) -> Done<'static> {
        Self::bare(effects, id)
    }
    fn bare(effects: Effects<Self>, id: Uuid) -> Done<'static> {
        Box::pin(async move {
            let mut tx = effects.store().begin().await?;
            Self::insert(&mut tx, id).await?;
            Ok(tx.commit().await?)
        })
    }
    fn barred(effects: Effects<Self>, id: Uuid) -> Done<'static> {
        Box::pin(async move {
            let mut tx = effects.store().begin().await?;
            bar(&mut tx, id).await?;
            Self::insert(&mut tx, id).await?;
            Ok(tx.commit().await?)
        })
    }
    fn count(effects: &Effects<Self>) -> Done<'_, i64> {
        Box::pin(async {
            let count = sqlx::query_scalar("SELECT count(*) FROM effect");
            Ok(count.fetch_one(effects.store().pool()).await?)
        })
    }
}

/// Opens the file of a folder.
pub(crate) async fn open(folder: &Path, connections: u32) -> anyhow::Result<Effects<Sqlite>> {
    let options = SqliteConnectOptions::new()
        .filename(database(folder))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        .connect_with(options)
        .await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    let barrier = sagamill::saga::migrations("sqlite").context("there is a barrier on SQLite")?;
    sqlx::raw_sql(barrier).execute(&pool).await?;
    Ok(Effects::new(EventStore::open(pool).await?))
}

/// The effect, a barrier row and a reply in one transaction: what a participant does at the least.
pub(crate) async fn answered(effects: Effects<Sqlite>, id: Uuid) -> anyhow::Result<()> {
    let mut tx = effects.store().begin().await?;
    bar(&mut tx, id).await?;
    Sqlite::insert(&mut tx, id).await?;
    sqlx::query("INSERT INTO bare_reply (id, payload) VALUES (?1, ?2)")
        .bind(id)
        .bind(&b"null"[..])
        .execute(&mut *tx)
        .await?;
    Ok(tx.commit().await?)
}

async fn bar(connection: &mut SqliteConnection, id: Uuid) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO saga_barrier (effect_id, phase, state, reply, command_name, command, definition, saga_id, saga_key,
           step, first_asked, updated_at)
         VALUES (?1, 'forward', 'done', ?2, 'bench.work', ?3, 'bench', ?1, '1-1', 'reserve', 1, 1)",
    )
    .bind(id)
    .bind(&b"null"[..])
    .bind(&b"{\"number\":1}"[..])
    .execute(connection)
    .await?;
    Ok(())
}

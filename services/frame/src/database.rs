//! A service's own database, of either kind.

use std::{path::Path, time::Duration};

use sagamill::eventstore;
use sqlx::{
    AssertSqlSafe, PgPool, Pool, Postgres, SqlSafeStr, Sqlite, SqlitePool, Transaction,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{Location, Sql};

/// How long a writer waits for another process's write; writers of one process queue in the store.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Most connections to one database, for the service's own statements.
const CONNECTIONS: u32 = 8;

/// A database that the shop runs on.
pub trait Db: sqlx::Database + eventstore::Database<Sqlx = Self> {
    /// How a transaction begins that reads, all of it at one moment.
    const SNAPSHOT: &'static str;
    /// What keeps other processes from making the same tables at the same time, where beginning to write does not.
    const ALONE: Option<&'static str>;
    /// Of a script's two versions, the one for this database.
    fn script(script: &Script) -> &'static str;
    /// Connections to the database of this kind that is there; a file is made where it is missing.
    fn connect(location: &Location) -> impl Future<Output = Result<Pool<Self>, sqlx::Error>> + Send;
    /// Statements on a connection.
    fn sql(connection: &mut Self::Connection) -> Sql<'_>;
}

/// The same tables in the words of each database.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// For SQLite.
    pub sqlite: &'static str,
    /// For PostgreSQL.
    pub postgres: &'static str,
}

/// The script of this name for each database: `migrations/sqlite/NAME` and `migrations/postgres/NAME` beside the caller.
#[macro_export]
macro_rules! script {
    ($name:literal) => {
        $crate::Script {
            sqlite: include_str!(concat!("migrations/sqlite/", $name)),
            postgres: include_str!(concat!("migrations/postgres/", $name)),
        }
    };
}

/// Evaluates an expression for the database that a location is on, which the expression knows by the name given.
#[macro_export]
macro_rules! on_database {
    ($location:expr, $database:ident => $expression:expr) => {
        match $location {
            $crate::Location::File(_) => {
                type $database = $crate::sqlx::Sqlite;
                $expression
            }
            $crate::Location::Server(_) => {
                type $database = $crate::sqlx::Postgres;
                $expression
            }
        }
    };
}

impl Db for Sqlite {
    const SNAPSHOT: &'static str = "BEGIN";
    const ALONE: Option<&'static str> = None;
    fn script(script: &Script) -> &'static str {
        script.sqlite
    }
    async fn connect(location: &Location) -> Result<SqlitePool, sqlx::Error> {
        match location {
            Location::File(file) => open_file(file).await,
            Location::Server(_) => Err(sqlx::Error::Configuration("a server is no SQLite file".into())),
        }
    }
    fn sql(connection: &mut Self::Connection) -> Sql<'_> {
        Sql::Sqlite(connection)
    }
}

impl Db for Postgres {
    const SNAPSHOT: &'static str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    // Two of `create table if not exists` at once fail: the second sees neither the table nor that it is being made.
    const ALONE: Option<&'static str> = Some("SELECT pg_advisory_xact_lock(hashtext('shop-frame.tables'))");
    fn script(script: &Script) -> &'static str {
        script.postgres
    }
    async fn connect(location: &Location) -> Result<PgPool, sqlx::Error> {
        match location {
            Location::File(_) => Err(sqlx::Error::Configuration("a file is no PostgreSQL server".into())),
            Location::Server(url) => PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await,
        }
    }
    fn sql(connection: &mut Self::Connection) -> Sql<'_> {
        Sql::Postgres(connection)
    }
}

/// Write-ahead log, every commit on disk before it returns, foreign keys held.
async fn open_file(file: &Path) -> Result<SqlitePool, sqlx::Error> {
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

/// Opens a database, and makes its tables where they are missing. The script is run each time.
///
/// # Errors
/// What the database says: it cannot be reached, the directory is missing, the file is no database, the disk is full.
pub async fn open<D: Db>(location: &Location, script: &Script) -> Result<Pool<D>, sqlx::Error> {
    let pool = D::connect(location).await?;
    let mut tx = begin(&pool).await?;
    if let Some(alone) = D::ALONE {
        D::sql(&mut tx).script(alone).await?;
    }
    D::sql(&mut tx).script(D::script(script)).await?;
    tx.commit().await?;
    Ok(pool)
}

/// Begins a transaction that is going to write.
///
/// # Errors
/// What the database says.
pub async fn begin<D: Db>(pool: &Pool<D>) -> Result<Transaction<'static, D>, sqlx::Error> {
    begin_with(pool, <D as eventstore::Database>::BEGIN).await
}

/// Begins a transaction that sees the database as it is at one moment.
///
/// # Errors
/// What the database says.
pub async fn snapshot<D: Db>(pool: &Pool<D>) -> Result<Transaction<'static, D>, sqlx::Error> {
    begin_with(pool, D::SNAPSHOT).await
}

/// Given up on its way to the server, a begin is done there all the same, and sqlx does not count it: the connection's next
/// user would write into a transaction that nobody ends. So it goes on in a task of its own, whoever waits for it.
async fn begin_with<D: Db>(pool: &Pool<D>, statement: &'static str) -> Result<Transaction<'static, D>, sqlx::Error> {
    let pool = pool.clone();
    let begin = async move { pool.begin_with(AssertSqlSafe(statement).into_sql_str()).await };
    tokio::spawn(begin)
        .await
        .map_err(|failed| sqlx::Error::Io(failed.into()))?
}

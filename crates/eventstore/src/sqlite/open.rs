//! Opening a file: from a URL, or on a pool that is there already.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use super::{
    crew::Crew,
    failure,
    file::File,
    log::SqliteLog,
    presence::{Absent, Presence},
    reader::Reader,
    schema,
};
use crate::{AnyPool, Error, EventStore, Position, Result};

/// How long a writer waits for other processes, in tries of a millisecond: short ones, because who tries more often than
/// the other is away gets in between two of its commits.
const BUSY_TRIES: i32 = 5_000;
/// Readers of one store; each answers one page at a time.
const READERS: usize = 3;
/// Connections for participants and joins on a store that was opened by URL.
const POOL: u32 = 8;

const PRAGMAS: &str = "
PRAGMA foreign_keys = OFF;
PRAGMA temp_store = MEMORY;
PRAGMA mmap_size = 0;
PRAGMA fullfsync = ON;
PRAGMA checkpoint_fullfsync = ON;";

/// A store on the file that a `sqlite:` URL names, made where it is missing.
pub(crate) async fn connect(url: &str) -> Result<EventStore> {
    let options = SqliteConnectOptions::from_str(url).map_err(|e| Error::Invalid {
        what: format!("`{url}`: {e}"),
    })?;
    let path = options.get_filename().to_owned();
    let asks = |mode: &str| {
        url.split_once('?')
            .is_some_and(|(_, query)| query.split('&').any(|part| part == mode))
    };
    if path.as_os_str().is_empty() || path.starts_with(":memory:") || url.contains(":memory:") || asks("mode=memory") {
        return Err(in_memory());
    }
    if asks("mode=ro") || asks("immutable=1") {
        return Err(Error::Invalid {
            what: format!("`{url}`: a log cannot be opened read-only"),
        });
    }
    let (log, path) = open(path, true).await?;
    let options = options
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5));
    let pool = SqlitePoolOptions::new()
        .max_connections(POOL)
        // A connection is a thread of this process: asking it whether it is there is a way to it and back.
        .test_before_acquire(false)
        .connect_lazy_with(options);
    Ok(EventStore::over(
        Arc::new(log.owning(pool.clone())),
        AnyPool::Sqlite(pool),
    ))
}

/// A store on the file of a pool.
pub(crate) async fn attach(pool: SqlitePool) -> Result<EventStore<sqlx::Sqlite>> {
    let main = "SELECT file FROM pragma_database_list WHERE name = 'main'";
    let path: Option<String> = sqlx::query_scalar(main)
        .fetch_one(&pool)
        .await
        .map_err(failure::of_sqlx)?;
    let path = path.filter(|path| !path.is_empty()).ok_or_else(in_memory)?;
    let (log, _) = open(path.into(), false).await?;
    Ok(EventStore::over(Arc::new(log), AnyPool::Sqlite(pool)))
}

fn in_memory() -> Error {
    let what = "a log cannot be in SQLite's own memory, which each connection has for itself: use `memory:` or a file";
    Error::Invalid { what: what.to_owned() }
}

async fn open(path: PathBuf, create: bool) -> Result<(SqliteLog, PathBuf)> {
    let opened = tokio::task::spawn_blocking(move || open_now(&path, create)).await;
    opened.map_err(|lost| Error::Database(Arc::new(lost)))?
}

fn open_now(path: &Path, create: bool) -> Result<(SqliteLog, PathBuf)> {
    let unusable = |what: String| Error::Unusable {
        what: format!("`{}`: {what}", path.display()),
    };
    let opened = || -> Result<_, Failed> {
        let mut writer = writer(path, create)?;
        let id = schema::migrate(&mut writer)?;
        let path = path.canonicalize()?;
        let presence = Presence::take(&path, &writer)?;
        let readers = (0..READERS)
            .map(|_| reader(&path).map(Reader::new))
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let head = writer.query_row("SELECT coalesce(max(pos), 0) FROM es_event", [], |row| row.get(0))?;
        Ok((
            threads(id, &path, writer, readers, Position(head))?.present(presence),
            path,
        ))
    };
    opened().map_err(|failed| match failed {
        Failed::Sqlite(error) if failure::is_busy(&error) => failure::of(error),
        Failed::Sqlite(error) => unusable(error.to_string()),
        Failed::Io(error) => unusable(error.to_string()),
        Failed::Store(Error::Unusable { what }) => unusable(what),
        Failed::Store(error) => error,
    })
}

enum Failed {
    Sqlite(rusqlite::Error),
    Io(std::io::Error),
    Store(Error),
}
impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}
impl From<Absent> for Failed {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::Io(error) => Self::Io(error),
            Absent::Sqlite(error) => Self::Sqlite(error),
        }
    }
}
impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}
impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

fn threads(
    id: Uuid,
    path: &Path,
    writer: Connection,
    readers: Vec<Reader>,
    head: Position,
) -> std::io::Result<SqliteLog> {
    let writer = Crew::new("sagamill-writer", vec![writer])?;
    let readers = Crew::new("sagamill-reader", readers)?;
    Ok(SqliteLog::new(id, File::at(path, head), writer, readers))
}

fn writer(path: &Path, create: bool) -> rusqlite::Result<Connection> {
    let create = if create {
        OpenFlags::SQLITE_OPEN_CREATE
    } else {
        OpenFlags::empty()
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let connection = connect_to(path, flags)?;
    use_wal(&connection)?;
    connection.execute_batch(PRAGMAS)?;
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -65536;")?;
    Ok(connection)
}

fn connect_to(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(be_patient))?;
    connection.set_prepared_statement_cache_capacity(64);
    // A plan depends on no bound value: a statement with `LIMIT ?` is not planned anew each time it is run.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// A connection that reads. The log must be there already.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    // Not opened read-only: a reader of a write-ahead log must be able to write its shared index.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = connect_to(path, flags)?;
    connection.execute_batch(PRAGMAS)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -16384;")?;
    Ok(connection)
}

/// The switch to a write-ahead log needs the file alone, and does not ask the busy handler: two processes that open a new
/// file at once meet here.
fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    let mut tries = 0;
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)) {
            Err(error) if failure::is_busy(&error) && be_patient(tries) => tries += 1,
            mode => return mode.map(drop),
        }
    }
}

fn be_patient(tries: i32) -> bool {
    std::thread::sleep(Duration::from_millis(1));
    tries < BUSY_TRIES
}

//! Events that join a caller's transaction, over the caller's own connection: the file's write lock is the log's lock.
//!
//! Each statement of such a transaction is a way to another thread and back. So an append is one statement, which looks
//! whether it may be and is there or is not; only one that is not is looked at again, to say why.

use std::{collections::HashSet, fmt::Write as _, sync::LazyLock};

use sqlx::{Connection, Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};
use uuid::Uuid;

use super::{failure::of_sqlx as failed, write};
use crate::{Append, Error, Expected, NewEvent, Result, Version, backend::micros, entry};

type Ids = HashSet<Uuid, foldhash::fast::RandomState>;

/// A single event. One statement, so that it takes the lock before it looks, also in a transaction that has only read so
/// far.
const ONE: &str = "INSERT INTO es_event
    (pos, version, recorded_at, append_hash, stream_id, event_id, corr, caus, schema_version, type, topic, key, payload, meta)
    SELECT coalesce((SELECT max(pos) FROM es_event), 0) + 1, stream.version + 1,
           max(?1, coalesce((SELECT recorded_at FROM es_event ORDER BY pos DESC LIMIT 1), ?1)),
           ?2, ?3, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14
      FROM (SELECT coalesce(max(version), 0) AS version FROM es_event WHERE stream_id = ?3) AS stream
     WHERE stream.version BETWEEN ?4 AND ?5
       AND NOT EXISTS (SELECT 1 FROM es_event WHERE event_id = ?6)
       AND NOT EXISTS (SELECT 1 FROM es_stream WHERE stream_id = ?3 AND state > 0)";
/// Several events: a statement has so many rows, and those that are not given are left out.
static MANY: LazyLock<[(usize, String); 3]> = LazyLock::new(|| [4, 16, 64].map(|rows| (rows, many(rows))));
/// Most events of one statement.
const MOST: usize = 64;
/// Some of an append were there before: a repeat of all of them is none of this append.
const DISOWN: &str = "UPDATE es_event SET append_hash = NULL WHERE event_id = ?1";

/// Stores those that are new, if `?6` of them are; where `?7` are, the first bears the append's hash.
fn many(rows: usize) -> String {
    const BEFORE: usize = 7;
    const COLUMNS: usize = 9;
    let mut given = String::new();
    for row in 0..rows {
        let _ = write!(given, "{}({row}", if row == 0 { "" } else { ", " });
        for column in 1..=COLUMNS {
            let _ = write!(given, ", ?{}", BEFORE + row * COLUMNS + column);
        }
        given.push(')');
    }
    format!(
        "INSERT INTO es_event (pos, version, recorded_at, append_hash,
            stream_id, event_id, corr, caus, schema_version, type, topic, key, payload, meta)
        WITH given (n, event_id, corr, caus, schema_version, type, topic, key, payload, meta) AS (VALUES {given}),
            fresh AS MATERIALIZED (SELECT * FROM given WHERE event_id IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM es_event AS known WHERE known.event_id = given.event_id)),
            last (pos, at) AS (SELECT coalesce(max(pos), 0), recorded_at FROM es_event),
            stream (version) AS (SELECT coalesce(max(version), 0) FROM es_event WHERE stream_id = ?3)
        SELECT last.pos + row_number() OVER (ORDER BY n), stream.version + row_number() OVER (ORDER BY n),
            max(?1, coalesce(last.at, ?1)), iif(n = 0 AND count(*) OVER () = ?7, ?2, NULL),
            ?3, event_id, corr, caus, schema_version, type, topic, key, payload, meta
        FROM fresh, last, stream
        WHERE stream.version BETWEEN ?4 AND ?5
            AND NOT EXISTS (SELECT 1 FROM es_stream WHERE stream_id = ?3 AND state > 0)
            AND (SELECT count(*) FROM fresh) >= ?6
        ORDER BY n"
    )
}

/// How events join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Those that are in the log already are left out.
    Each,
    /// All or none.
    Whole,
}

/// Stores facts; those that are in the log already are left out.
pub(super) async fn stage(connection: &mut SqliteConnection, append: Append) -> Result<()> {
    join(connection, &append, How::Each).await
}

/// Stores events where the stream is as expected; nothing of them where it is not.
pub(super) async fn append(connection: &mut SqliteConnection, append: Append) -> Result<()> {
    join(connection, &append, How::Whole).await
}

async fn join(connection: &mut SqliteConnection, append: &Append, how: How) -> Result<()> {
    entry::check_append(append)?;
    // The same fact twice is one.
    let mut ids = Ids::default();
    let events: Vec<&NewEvent> = append.events.iter().filter(|event| ids.insert(event.id)).collect();
    fail::fail_point!("log.stage.before");
    if events.len() <= MOST {
        insert(connection, append, &events, append.events.len(), how).await?;
    } else {
        // Dropped on the way out with an error, it is rolled back; the caller's own work stays.
        let mut savepoint = connection.begin().await.map_err(failed)?;
        pieces(&mut savepoint, append, &events, how).await?;
        savepoint.commit().await.map_err(failed)?;
    }
    fail::fail_point!("log.stage.after");
    Ok(())
}

/// As many statements as it takes.
async fn pieces(connection: &mut SqliteConnection, append: &Append, events: &[&NewEvent], how: How) -> Result<()> {
    let mut stored = 0;
    let mut rest = append.clone();
    for piece in events.chunks(MOST) {
        stored += insert(connection, &rest, piece, piece.len(), how).await?;
        rest.expected = Expected::Any;
    }
    if stored < append.events.len() {
        let disown = sqlx::query(DISOWN).bind(append.events[0].id);
        disown.execute(connection).await.map_err(failed)?;
    }
    Ok(())
}

/// Stores an append's events, or some of them, in one statement. Answers how many are new. Where those are `all`, an
/// append of the same ones is a repeat.
async fn insert(
    connection: &mut SqliteConnection,
    append: &Append,
    events: &[&NewEvent],
    all: usize,
    how: How,
) -> Result<usize> {
    let (low, high) = versions(append.expected);
    let is_first = events[0].id == append.events[0].id;
    let hash = is_first.then(|| entry::hash(&append.stream, &append.events));
    let begun = |sql| {
        sqlx::query::<Sqlite>(sql)
            .bind(micros())
            .bind(hash)
            .bind(append.stream.as_str())
            .bind(low)
            .bind(high)
    };
    let row = match events {
        [event] if all == 1 => bind(begun(ONE), event),
        _ => {
            let fits = MANY.iter().find(|(rows, _)| *rows >= events.len());
            let (_, sql) = fits.expect("invariant: there are no more events than fit");
            let least = if how == How::Whole { events.len() as i64 } else { 0 };
            let row = begun(sql).bind(least).bind(all as i64);
            events.iter().fold(row, |row, event| bind(row, event))
        }
    };
    let stored = row.execute(&mut *connection).await.map_err(failed)?.rows_affected() as usize;
    if stored == 0 || how == How::Whole && stored < events.len() {
        why(connection, append, events, how).await?;
    }
    Ok(stored)
}

fn bind<'q>(row: Query<'q, Sqlite, SqliteArguments>, event: &'q NewEvent) -> Query<'q, Sqlite, SqliteArguments> {
    row.bind(event.id)
        .bind(event.correlation)
        .bind(event.causation)
        .bind(event.schema)
        .bind(&event.name)
        .bind(event.topic.as_ref().map(AsRef::<str>::as_ref))
        .bind(&event.key)
        .bind(&event.payload[..])
        .bind(event.meta())
}

/// The versions that a stream may have.
fn versions(expected: Expected) -> (i64, i64) {
    match expected {
        Expected::Any => (0, i64::MAX),
        Expected::NoStream => (0, 0),
        Expected::Exists => (1, i64::MAX),
        Expected::Exact(version) => (version.0, version.0),
    }
}

/// Why nothing was stored; facts that were all there before need no reason.
async fn why(connection: &mut SqliteConnection, append: &Append, events: &[&NewEvent], how: How) -> Result<()> {
    if how == How::Whole {
        for event in events {
            let known = sqlx::query(write::KNOWN).bind(event.id);
            if known.fetch_optional(&mut *connection).await.map_err(failed)?.is_some() {
                return Err(Error::Repeated(event.id));
            }
        }
    }
    let stream = sqlx::query_as(write::STREAM).bind(append.stream.as_str());
    let (actual, closed): (i64, bool) = stream.fetch_one(connection).await.map_err(failed)?;
    let Append { stream, expected, .. } = append;
    match how {
        _ if closed => Err(Error::Closed(stream.clone())),
        How::Each => Ok(()),
        How::Whole => Err(Error::Conflict {
            stream: stream.clone(),
            expected: *expected,
            actual: Version(actual),
        }),
    }
}

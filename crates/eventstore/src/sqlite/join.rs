//! Events that join a caller's transaction, over the caller's own connection: the file's write lock is the log's lock.
//!
//! Each statement of such a transaction is a way to another thread and back. So an append is one statement, which looks
//! whether it may be and is there or is not; only one that is not is looked at again, to say why.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::LazyLock,
};

use jiff::Timestamp;
use sqlx::{
    Connection, Row as _, Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

use super::{failure::of_sqlx as failed, write};
use crate::{
    Append, Error, Expected, NewEvent, Position, Recorded, Result, Version,
    backend::{Join, micros},
    entry,
};

type Ids = HashSet<Uuid, foldhash::fast::RandomState>;
/// Position, version and time of those that are new.
type Places = HashMap<Uuid, (i64, i64, i64), foldhash::fast::RandomState>;

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
       AND NOT EXISTS (SELECT 1 FROM es_stream WHERE stream_id = ?3 AND state > 0)
    RETURNING event_id, pos, version, recorded_at";
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
        ORDER BY n
        RETURNING event_id, pos, version, recorded_at"
    )
}

/// Takes events into a transaction: facts, of which those are left out that are in the log already; or all of them, if the
/// stream is as expected. Answers the new ones, as the log has them once it is committed.
pub(super) async fn join(connection: &mut SqliteConnection, append: Append, how: Join) -> Result<Vec<Recorded>> {
    entry::check_append(&append)?;
    // The same fact twice is one.
    let mut ids = Ids::default();
    let events: Vec<&NewEvent> = append.events.iter().filter(|event| ids.insert(event.id)).collect();
    fail::fail_point!("log.stage.before");
    let mut places = if events.len() <= MOST {
        insert(connection, &append, &events, append.events.len(), how).await?
    } else {
        // Dropped on the way out with an error, it is rolled back; the caller's own work stays.
        let mut savepoint = connection.begin().await.map_err(failed)?;
        let places = pieces(&mut savepoint, &append, &events, how).await?;
        savepoint.commit().await.map_err(failed)?;
        places
    };
    fail::fail_point!("log.stage.after");
    let Append { stream, events, .. } = append;
    let recorded = |event: NewEvent| {
        let (position, version, at) = places.remove(&event.id)?;
        let at = Timestamp::from_microsecond(at).unwrap_or(Timestamp::MAX);
        Some(event.recorded(stream.clone(), Position(position), Version(version), at))
    };
    Ok(events.into_iter().filter_map(recorded).collect())
}

/// As many statements as it takes.
async fn pieces(connection: &mut SqliteConnection, append: &Append, events: &[&NewEvent], how: Join) -> Result<Places> {
    let mut places = Places::default();
    let mut rest = append.clone();
    for piece in events.chunks(MOST) {
        places.extend(insert(connection, &rest, piece, piece.len(), how).await?);
        rest.expected = Expected::Any;
    }
    if places.len() < append.events.len() {
        let disown = sqlx::query(DISOWN).bind(append.events[0].id);
        disown.execute(connection).await.map_err(failed)?;
    }
    Ok(places)
}

/// Stores an append's events, or some of them, in one statement. Answers which are new. Where those are `all`, an append of
/// the same ones is a repeat.
async fn insert(
    connection: &mut SqliteConnection,
    append: &Append,
    events: &[&NewEvent],
    all: usize,
    how: Join,
) -> Result<Places> {
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
    let rows = match events {
        // All is done when the first row is there.
        [event] if all == 1 => {
            let row = bind(begun(ONE), event).fetch_optional(&mut *connection);
            row.await.map_err(failed)?.into_iter().collect()
        }
        _ => {
            let fits = MANY.iter().find(|(rows, _)| *rows >= events.len());
            let (_, sql) = fits.expect("invariant: there are no more events than fit");
            let least = if how == Join::Checked { events.len() as i64 } else { 0 };
            let rows = begun(sql).bind(least).bind(all as i64);
            let rows = events.iter().fold(rows, |rows, event| bind(rows, event));
            rows.fetch_all(&mut *connection).await.map_err(failed)?
        }
    };
    if rows.is_empty() || how == Join::Checked && rows.len() < events.len() {
        why(connection, append, events, how).await?;
    }
    let place = |row: &SqliteRow| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)));
    rows.iter().map(place).collect::<Result<_, _>>().map_err(failed)
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
async fn why(connection: &mut SqliteConnection, append: &Append, events: &[&NewEvent], how: Join) -> Result<()> {
    if how == Join::Checked {
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
        Join::Staged => Ok(()),
        Join::Checked => Err(Error::Conflict {
            stream: stream.clone(),
            expected: *expected,
            actual: Version(actual),
        }),
    }
}

//! What lies in a SQLite file, counted.

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use rusqlite::{Connection, Row, params};
use sagamill_bus::Topic;

use super::{log::SqliteLog, row};
use crate::{
    Position, Result,
    census::{Census, Heap, Noted, Slip},
};

impl Census for SqliteLog {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<Heap>>> {
        self.query(topics).boxed()
    }
    fn slips<'a>(&'a self, after: Position, until: Position, mark: &'a str) -> BoxFuture<'a, Result<Vec<Slip>>> {
        let mark = mark.to_owned();
        self.query(move |connection| slips(connection, after, until, &mark))
            .boxed()
    }
    fn noted<'a>(&'a self, name: &'a str, after: Position) -> BoxFuture<'a, Result<Noted>> {
        let name = name.to_owned();
        self.query(move |connection| noted(connection, &name, after)).boxed()
    }
}

/// The index has all of it.
fn topics(connection: &Connection) -> rusqlite::Result<Vec<Heap>> {
    let mut select = connection.prepare_cached(
        "SELECT topic, count(*), min(pos), max(pos) FROM es_event INDEXED BY es_event_published
         WHERE topic IS NOT NULL GROUP BY topic ORDER BY topic",
    )?;
    let heap = |row: &Row<'_>| {
        Ok(Heap {
            topic: Topic::from(row.get::<_, String>(0)?),
            events: u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default(),
            first: Position(row.get(2)?),
            last: Position(row.get(3)?),
        })
    };
    select.query_map([], heap)?.collect()
}

fn slips(connection: &Connection, after: Position, until: Position, mark: &str) -> rusqlite::Result<Vec<Slip>> {
    let mut select = connection.prepare_cached(
        "SELECT pos, topic, coalesce(key, stream_id), CASE WHEN instr(meta, ?3) > 0 THEN meta END
         FROM es_event INDEXED BY es_event_published WHERE topic IS NOT NULL AND pos > ?1 AND pos <= ?2 ORDER BY pos",
    )?;
    let slip = |row: &Row<'_>| {
        Ok(Slip {
            position: Position(row.get(0)?),
            topic: Topic::from(row.get::<_, String>(1)?),
            place: row.get(2)?,
            headers: row::headers(row, 3)?,
        })
    };
    select
        .query_map(params![after.0, until.0, mark.as_bytes()], slip)?
        .collect()
}

fn noted(connection: &Connection, name: &str, after: Position) -> rusqlite::Result<Noted> {
    let place = |row: &Row<'_>| Ok((row.get(0)?, Position(row.get(1)?)));
    Ok(Noted {
        begun: connection
            .prepare_cached("SELECT shard, pos FROM es_begun WHERE name = ?1")?
            .query_map([name], place)?
            .collect::<rusqlite::Result<_>>()?,
        buried: connection
            .prepare_cached("SELECT shard, pos FROM es_dead WHERE name = ?1 AND pos > ?2")?
            .query_map(params![name, after.0], place)?
            .collect::<rusqlite::Result<_>>()?,
    })
}

//! What a bus's groups have begun, and what they gave up, in a SQLite file.

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use rusqlite::{Connection, Row, params};
use sagamill_bus::Topic;

use super::{
    desk::{anchor, bytes, check},
    log::SqliteLog,
    row,
};
use crate::{
    Lease, Position, Result,
    backend::micros,
    backlog::{Backlog, Begun, Burial, Grave, Graves, Note, Open},
};

impl Backlog for SqliteLog {
    fn backlog<'a>(&'a self, name: &'a str, shard: u16, after: Position) -> BoxFuture<'a, Result<Begun>> {
        let name = name.to_owned();
        self.query(move |connection| backlog(connection, &name, shard, after))
            .boxed()
    }
    fn note<'a>(&'a self, notes: &'a [(Lease, Note)]) -> BoxFuture<'a, Result<Vec<Lease>>> {
        let notes = notes.to_vec();
        self.change(move |tx| write_all(tx, &notes)).boxed()
    }
    fn graveyards(&self) -> BoxFuture<'_, Result<Vec<(Topic, String, usize)>>> {
        self.query(graveyards).boxed()
    }
    fn graves<'a>(&'a self, ask: &'a Graves) -> BoxFuture<'a, Result<Vec<Grave>>> {
        let ask = ask.clone();
        self.query(move |connection| graves(connection, &ask)).boxed()
    }
    fn exhume(&self, number: i64) -> BoxFuture<'_, Result<bool>> {
        self.change(move |tx| {
            let mut delete = tx.prepare_cached("DELETE FROM es_dead WHERE number = ?1")?;
            Ok(delete.execute([number])? == 1)
        })
        .boxed()
    }
}

fn backlog(connection: &Connection, name: &str, shard: u16, after: Position) -> rusqlite::Result<Begun> {
    let open = "SELECT pos, event_id, key, attempts, due_at FROM es_begun WHERE name = ?1 AND shard = ?2 ORDER BY pos";
    let buried = "SELECT pos, event_id FROM es_dead WHERE name = ?1 AND shard = ?2 AND pos > ?3 ORDER BY pos";
    let read = |row: &Row<'_>| {
        Ok(Open {
            at: anchor(row, 0)?,
            key: row.get(2)?,
            attempts: row.get(3)?,
            due: row::time(row, 4)?,
        })
    };
    Ok(Begun {
        open: connection
            .prepare_cached(open)?
            .query_map(params![name, shard], read)?
            .collect::<rusqlite::Result<_>>()?,
        buried: connection
            .prepare_cached(buried)?
            .query_map(params![name, shard, after.0], |row| anchor(row, 0))?
            .collect::<rusqlite::Result<_>>()?,
    })
}

fn write_all(tx: &Connection, notes: &[(Lease, Note)]) -> rusqlite::Result<Vec<Lease>> {
    let mut lost: Vec<Lease> = Vec::new();
    let mut held: Option<&Lease> = None;
    for (lease, note) in notes {
        if lost.contains(lease) {
            continue;
        }
        if held != Some(lease) && check(tx, lease)?.is_err() {
            lost.push(lease.clone());
            continue;
        }
        held = Some(lease);
        write(tx, lease, note)?;
    }
    Ok(lost)
}

fn write(tx: &Connection, lease: &Lease, note: &Note) -> rusqlite::Result<()> {
    match note {
        Note::Keep(open) => {
            let mut keep = tx.prepare_cached(
                "INSERT OR REPLACE INTO es_begun (name, shard, pos, event_id, key, attempts, due_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            keep.execute(params![
                lease.name,
                lease.shard,
                open.at.position.0,
                bytes(open.at.event.as_ref()),
                open.key,
                open.attempts,
                open.due.as_microsecond()
            ])?;
            Ok(())
        }
        Note::Forget(position) => forget(tx, lease, *position),
        Note::Bury(burial) => {
            forget(tx, lease, burial.at.position)?;
            bury(tx, lease, burial)
        }
    }
}

fn forget(tx: &Connection, lease: &Lease, position: Position) -> rusqlite::Result<()> {
    let mut delete = tx.prepare_cached("DELETE FROM es_begun WHERE name = ?1 AND shard = ?2 AND pos = ?3")?;
    delete.execute(params![lease.name, lease.shard, position.0]).map(drop)
}

/// A message that died before under the same topic and group gets a new number.
fn bury(tx: &Connection, lease: &Lease, burial: &Burial) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached(
        "INSERT OR REPLACE INTO es_dead
         (name, shard, pos, event_id, topic, group_name, message_id, attempts, reason, died_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    insert
        .execute(params![
            lease.name,
            lease.shard,
            burial.at.position.0,
            bytes(burial.at.event.as_ref()),
            burial.topic.as_ref(),
            burial.group,
            &burial.message.as_bytes()[..],
            burial.attempts,
            burial.reason,
            micros()
        ])
        .map(drop)
}

fn graveyards(connection: &Connection) -> rusqlite::Result<Vec<(Topic, String, usize)>> {
    let select =
        "SELECT topic, group_name, count(*) FROM es_dead GROUP BY topic, group_name ORDER BY topic, group_name";
    let mut select = connection.prepare_cached(select)?;
    let yard = |row: &Row<'_>| {
        let count: i64 = row.get(2)?;
        Ok((
            Topic::from(row.get::<_, String>(0)?),
            row.get(1)?,
            usize::try_from(count).unwrap_or_default(),
        ))
    };
    select.query_map([], yard)?.collect()
}

fn graves(connection: &Connection, ask: &Graves) -> rusqlite::Result<Vec<Grave>> {
    let mut select = connection.prepare_cached(
        "SELECT pos, event_id, number, attempts, reason, died_at FROM es_dead
         WHERE topic = ?1 AND group_name = ?2 AND number > ?3 AND (?4 IS NULL OR message_id = ?4)
         ORDER BY number LIMIT ?5",
    )?;
    let grave = |row: &Row<'_>| {
        Ok(Grave {
            at: anchor(row, 0)?,
            number: row.get(2)?,
            attempts: row.get(3)?,
            reason: row.get(4)?,
            died: row::time(row, 5)?,
        })
    };
    let limit = i64::try_from(ask.limit).unwrap_or(i64::MAX);
    let row = params![
        ask.topic.as_ref(),
        ask.group,
        ask.after,
        bytes(ask.message.as_ref()),
        limit
    ];
    select.query_map(row, grave)?.collect()
}

//! What a bus's groups have begun, and what they gave up, in a PostgreSQL database.

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use jiff::Timestamp;
use sagamill_bus::Topic;
use sqlx::{FromRow, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    desk::{anchor, column},
    log::PostgresLog,
    time::At,
};
use crate::{
    Anchor, Lease, Position, Result,
    backlog::{Backlog, Begun, Burial, Grave, Graves, Note, Open},
};

const OPEN: &str =
    "SELECT pos, event_id, key, attempts, due_at FROM es.begun WHERE name = $1 AND shard = $2 ORDER BY pos";
const BURIED: &str = "SELECT pos, event_id FROM es.dead WHERE name = $1 AND shard = $2 AND pos > $3 ORDER BY pos";
const NOTE: &str = "SELECT es.note($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
const GRAVEYARDS: &str =
    "SELECT topic, group_name, count(*) FROM es.dead GROUP BY topic, group_name ORDER BY topic, group_name";
const GRAVES: &str = "SELECT pos, event_id, number, attempts, reason, died_at FROM es.dead
    WHERE topic = $1 AND group_name = $2 AND number > $3 AND ($4::uuid IS NULL OR message_id = $4)
    ORDER BY number LIMIT $5";
const EXHUME: &str =
    "WITH gone AS (DELETE FROM es.dead WHERE number = $1 RETURNING number) SELECT EXISTS (SELECT FROM gone)";

impl Backlog for PostgresLog {
    fn backlog<'a>(&'a self, name: &'a str, shard: u16, after: Position) -> BoxFuture<'a, Result<Begun>> {
        let open = move || sqlx::query(OPEN).bind(name).bind(i32::from(shard));
        let buried = move || sqlx::query(BURIED).bind(name).bind(i32::from(shard)).bind(after.0);
        async move {
            let open = self.rows(open).await?;
            let buried: Vec<(i64, Uuid)> = self.rows(buried).await?;
            let buried = buried.into_iter().map(|(at, event)| anchor(at, Some(event)));
            Ok(Begun {
                open,
                buried: buried.collect(),
            })
        }
        .boxed()
    }
    fn note<'a>(&'a self, notes: &'a [(Lease, Note)]) -> BoxFuture<'a, Result<Vec<Lease>>> {
        let lines: Vec<Line<'_>> = notes.iter().map(|(_, note)| Line::of(note)).collect();
        async move {
            let note = || {
                sqlx::query(NOTE)
                    .bind(column(notes, |(lease, _)| lease.name.as_str()))
                    .bind(column(notes, |(lease, _)| i32::from(lease.shard)))
                    .bind(column(notes, |(lease, _)| lease.owner))
                    .bind(column(notes, |(lease, _)| lease.fence))
                    .bind(column(&lines, |line| line.kind))
                    .bind(column(&lines, |line| line.at.position.0))
                    .bind(column(&lines, |line| line.at.event))
                    .bind(column(&lines, |line| line.key))
                    .bind(column(&lines, |line| i64::from(line.attempts)))
                    .bind(column(&lines, |line| line.due.map(At)))
                    .bind(column(&lines, |line| line.burial.map(|burial| burial.topic.as_ref())))
                    .bind(column(&lines, |line| line.burial.map(|burial| burial.group.as_str())))
                    .bind(column(&lines, |line| line.burial.map(|burial| burial.message)))
                    .bind(column(&lines, |line| line.burial.map(|burial| burial.reason.as_str())))
            };
            let (held,): (Vec<bool>,) = self.row(note).await?;
            let mut lost: Vec<Lease> = Vec::new();
            for ((lease, _), _) in notes.iter().zip(held).filter(|(_, held)| !held) {
                if !lost.contains(lease) {
                    lost.push(lease.clone());
                }
            }
            Ok(lost)
        }
        .boxed()
    }
    fn graveyards(&self) -> BoxFuture<'_, Result<Vec<(Topic, String, usize)>>> {
        async {
            let yards: Vec<(String, String, i64)> = self.rows(|| sqlx::query(GRAVEYARDS)).await?;
            let yard = |(topic, group, count)| (Topic::from(topic), group, usize::try_from(count).unwrap_or_default());
            Ok(yards.into_iter().map(yard).collect())
        }
        .boxed()
    }
    fn graves<'a>(&'a self, ask: &'a Graves) -> BoxFuture<'a, Result<Vec<Grave>>> {
        let limit = i64::try_from(ask.limit).unwrap_or(i64::MAX);
        let graves = move || {
            sqlx::query(GRAVES)
                .bind(ask.topic.as_ref())
                .bind(ask.group.as_str())
                .bind(ask.after)
                .bind(ask.message)
                .bind(limit)
        };
        self.rows(graves).boxed()
    }
    fn exhume(&self, number: i64) -> BoxFuture<'_, Result<bool>> {
        async move {
            self.row(move || sqlx::query(EXHUME).bind(number))
                .await
                .map(|(was,)| was)
        }
        .boxed()
    }
}

/// A note as a line of columns.
struct Line<'n> {
    kind: i16,
    at: Anchor,
    key: Option<&'n str>,
    attempts: u32,
    due: Option<Timestamp>,
    burial: Option<&'n Burial>,
}

impl<'n> Line<'n> {
    fn of(note: &'n Note) -> Self {
        let line = |kind, at, attempts| Self {
            kind,
            at,
            key: None,
            attempts,
            due: None,
            burial: None,
        };
        match note {
            Note::Keep(open) => Self {
                key: open.key.as_deref(),
                due: Some(open.due),
                ..line(0, open.at, open.attempts)
            },
            Note::Forget(position) => line(1, anchor(position.0, None), 0),
            Note::Bury(burial) => Self {
                burial: Some(burial),
                ..line(2, burial.at, burial.attempts)
            },
        }
    }
}

impl FromRow<'_, PgRow> for Open {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            at: anchor(row.try_get(0)?, row.try_get(1)?),
            key: row.try_get(2)?,
            attempts: attempts(row.try_get(3)?),
            due: row.try_get::<At, _>(4)?.0,
        })
    }
}

impl FromRow<'_, PgRow> for Grave {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            at: anchor(row.try_get(0)?, row.try_get(1)?),
            number: row.try_get(2)?,
            attempts: attempts(row.try_get(3)?),
            reason: row.try_get(4)?,
            died: row.try_get::<At, _>(5)?.0,
        })
    }
}

/// A number of attempts, which was written from one.
fn attempts(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

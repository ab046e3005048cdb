//! What lies in a PostgreSQL database, counted.

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use sagamill_bus::Topic;
use sqlx::{FromRow, Row, postgres::PgRow};

use super::{desk::number, log::PostgresLog, row};
use crate::{
    Position, Result,
    census::{Census, Heap, Noted, Slip},
};

/// Looks through the whole log: it has no index by topic, which every append would pay for.
const TOPICS: &str = "SELECT topic, count(*), min(pos), max(pos) FROM es.event WHERE topic IS NOT NULL
    GROUP BY topic ORDER BY topic";
const SLIPS: &str = "SELECT pos, topic, coalesce(key, stream_id), CASE WHEN position($3 IN meta) > 0 THEN meta END
    FROM es.event WHERE pos > $1 AND pos <= $2 AND topic IS NOT NULL ORDER BY pos";
const BEGUN: &str = "SELECT shard, pos FROM es.begun WHERE name = $1";
const BURIED: &str = "SELECT shard, pos FROM es.dead WHERE name = $1 AND pos > $2";

impl Census for PostgresLog {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<Heap>>> {
        self.rows(|| sqlx::query(TOPICS)).boxed()
    }
    fn slips<'a>(&'a self, after: Position, until: Position, mark: &'a str) -> BoxFuture<'a, Result<Vec<Slip>>> {
        let slips = move || sqlx::query(SLIPS).bind(after.0).bind(until.0).bind(mark.as_bytes());
        self.rows(slips).boxed()
    }
    fn noted<'a>(&'a self, name: &'a str, after: Position) -> BoxFuture<'a, Result<Noted>> {
        async move {
            let begun: Vec<(i32, i64)> = self.rows(|| sqlx::query(BEGUN).bind(name)).await?;
            let buried: Vec<(i32, i64)> = self.rows(|| sqlx::query(BURIED).bind(name).bind(after.0)).await?;
            let place = |(shard, position)| (number(shard), Position(position));
            Ok(Noted {
                begun: begun.into_iter().map(place).collect(),
                buried: buried.into_iter().map(place).collect(),
            })
        }
        .boxed()
    }
}

impl FromRow<'_, PgRow> for Heap {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            topic: Topic::from(row.try_get::<String, _>(0)?),
            events: u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or_default(),
            first: Position(row.try_get(2)?),
            last: Position(row.try_get(3)?),
        })
    }
}

impl FromRow<'_, PgRow> for Slip {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            position: Position(row.try_get(0)?),
            topic: Topic::from(row.try_get::<String, _>(1)?),
            place: row.try_get(2)?,
            headers: row::headers(row.try_get(3)?)?,
        })
    }
}

//! Who reads what, how far, in a PostgreSQL database: each question is one statement, and times are the database's own.

use std::{collections::BTreeMap, time::Duration};

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use jiff::Timestamp;
use sqlx::{
    FromRow, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use uuid::Uuid;

use super::{failure, log::PostgresLog, time::At};
use crate::{
    Anchor, Error, Lease, Position, Result,
    backend::{Checkpoint, Claim, Claimed, Desk, Member, TTL_MAX, Timer},
    backlog::BEGUN_SPAN,
};

/// What is done under a lease, whose row stays as it is meanwhile; answers whether it holds.
macro_rules! under_lease {
    ($then:literal) => {
        concat!(
            "WITH held AS (
                SELECT c.name, c.shard FROM es.checkpoint c
                 WHERE c.name = $1 AND c.shard = $2 AND c.owner = $3 AND c.fence = $4 FOR SHARE),
            done AS (",
            $then,
            ") SELECT EXISTS (SELECT FROM held)"
        )
    };
}

const JOIN: &str = "SELECT process, about
    FROM es.member_join($1, $2, $3, $4 * interval '1 microsecond', $5 * interval '1 microsecond')";
const LEAVE: &str = "DELETE FROM es.member WHERE name = $1 AND process = $2";
const CLAIM: &str = "SELECT rows, shard, fence, pos, event_id, doubt
    FROM es.claim($1, $2, $3, $4 * interval '1 microsecond', $5 * interval '1 microsecond', $6, $7, $8, $9)";
/// Rows are locked in one order everywhere, so that nobody waits for one in a circle. No time: the leases are given back.
const SET_OWNER: &str = "WITH held AS (
        SELECT c.name, c.shard FROM es.checkpoint c
          JOIN unnest($1, $2, $3, $4) AS l(name, shard, owner, fence)
            ON c.name = l.name AND c.shard = l.shard AND c.owner = l.owner AND c.fence = l.fence
         ORDER BY c.name, c.shard FOR UPDATE OF c)
    UPDATE es.checkpoint c
       SET owner = CASE WHEN $5::bigint IS NOT NULL THEN c.owner END,
           lease_until = clock_timestamp() + $5 * interval '1 microsecond'
      FROM held WHERE c.name = held.name AND c.shard = held.shard
    RETURNING c.name, c.shard, c.fence";
const SAVE: &str = "SELECT es.checkpoint_save($1, $2, $3, $4, $5, $6)";
const CHECKPOINTS: &str =
    "SELECT name, shard, pos, event_id, owner, lease_until FROM es.checkpoint ORDER BY name COLLATE \"C\", shard";
const ANCHORS: &str = "SELECT pos, event_id FROM es.anchor WHERE name = $1 AND shard = $2 ORDER BY pos DESC";
const RESET: &str = "WITH forgotten AS (DELETE FROM es.anchor WHERE name = $1 AND shard = $2 AND pos > $3)
    UPDATE es.checkpoint SET pos = $3, event_id = $4, owner = NULL, lease_until = NULL, fence = fence + 1
     WHERE name = $1 AND shard = $2";
const SCHEDULE: &str = under_lease!(
    "INSERT INTO es.timer (name, shard, id, due_at, payload)
     SELECT held.name, held.shard, t.id, t.due_at, t.payload FROM held, unnest($5, $6, $7) AS t(id, due_at, payload)
         ON CONFLICT (name, shard, id) DO UPDATE SET due_at = excluded.due_at, payload = excluded.payload"
);
const UNSCHEDULE: &str = under_lease!(
    "DELETE FROM es.timer t USING held WHERE t.name = held.name AND t.shard = held.shard AND t.id = ANY ($5)"
);
const TIMERS: &str = "SELECT id, due_at, payload FROM es.timer
    WHERE name = $1 AND shard = $2 AND due_at < $3 ORDER BY due_at, id COLLATE \"C\"";

/// A statement with what is bound to it.
pub(super) type Statement = Query<'static, Postgres, PgArguments>;

impl PostgresLog {
    /// `statement` makes it, again where it must be asked again.
    pub(super) async fn rows<T>(&self, statement: impl Fn() -> Statement + Send + Sync) -> Result<Vec<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send,
    {
        let ask = |mut connection: PgConnection| {
            let statement = statement();
            async move {
                let rows = statement.fetch_all(&mut connection).await;
                (connection, rows)
            }
        };
        let rows = self.shared.readers.run(ask).await?;
        rows.iter().map(|row| T::from_row(row).map_err(failure::of)).collect()
    }
    pub(super) async fn row<T>(&self, statement: impl Fn() -> Statement + Send + Sync) -> Result<T>
    where
        T: for<'r> FromRow<'r, PgRow> + Send,
    {
        let row = self.rows(statement).await?.pop();
        row.ok_or_else(|| Error::database(sqlx::Error::RowNotFound))
    }
    async fn run(&self, statement: impl Fn() -> Statement + Send + Sync) -> Result<()> {
        self.rows::<()>(statement).await.map(drop)
    }

    async fn set_owner(&self, leases: &[Lease], ttl: Option<Duration>) -> Result<Vec<Lease>> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let set = || {
            sqlx::query(SET_OWNER)
                .bind(column(leases, |lease| lease.name.as_str()))
                .bind(column(leases, |lease| i32::from(lease.shard)))
                .bind(column(leases, |lease| lease.owner))
                .bind(column(leases, |lease| lease.fence))
                .bind(ttl.map(span))
        };
        let held: Vec<(String, i32, i64)> = self.rows(set).await?;
        let mut leases = leases.to_vec();
        leases.retain(|lease| {
            let held_by = |(name, shard, fence): &(String, i32, i64)| {
                *name == lease.name && number(*shard) == lease.shard && *fence == lease.fence
            };
            held.iter().any(held_by)
        });
        Ok(leases)
    }
    /// # Errors
    /// [`Error::Fenced`] where the lease does not hold.
    async fn under(
        &self,
        lease: &Lease,
        statement: impl Fn(Statement) -> Statement + Send + Sync,
        sql: &'static str,
    ) -> Result<()> {
        let bound = || {
            let lease_of = sqlx::query(sql).bind(lease.name.as_str()).bind(i32::from(lease.shard));
            statement(lease_of.bind(lease.owner).bind(lease.fence))
        };
        match self.row(bound).await? {
            (true,) => Ok(()),
            (false,) => Err(Error::Fenced {
                name: lease.name.clone(),
                shard: lease.shard,
            }),
        }
    }
}

impl Desk for PostgresLog {
    fn join<'a>(
        &'a self,
        name: &'a str,
        owner: Uuid,
        about: Option<&'a str>,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<Member>>> {
        let join = move || {
            sqlx::query(JOIN)
                .bind(name)
                .bind(owner)
                .bind(about.map(str::as_bytes))
                .bind(span(ttl))
                .bind(span(TTL_MAX))
        };
        async move {
            let live: Vec<(Uuid, Option<Vec<u8>>)> = self.rows(join).await?;
            let member = |(id, about): (Uuid, Option<Vec<u8>>)| Member {
                id,
                about: about.and_then(|about| String::from_utf8(about).ok()),
            };
            Ok(live.into_iter().map(member).collect())
        }
        .boxed()
    }
    fn leave<'a>(&'a self, name: &'a str, owner: Uuid) -> BoxFuture<'a, Result<()>> {
        self.run(move || sqlx::query(LEAVE).bind(name).bind(owner)).boxed()
    }
    fn claim<'a>(&'a self, ask: &'a Claim) -> BoxFuture<'a, Result<Vec<Claimed>>> {
        let claim = || {
            sqlx::query(CLAIM)
                .bind(&ask.name)
                .bind(i32::from(ask.shards))
                .bind(ask.owner)
                .bind(span(ask.ttl))
                .bind(span(TTL_MAX))
                .bind(ask.start.position.0)
                .bind(ask.start.event)
                .bind(i32::from(ask.most))
                .bind(BEGUN_SPAN)
        };
        async move {
            let taken: Taken = self.row(claim).await?;
            ask.check_shards(usize::try_from(taken.rows).unwrap_or(usize::MAX))?;
            let claimed = taken.claimed(ask);
            if !claimed.is_empty() {
                self.shared.news.doubt();
            }
            Ok(claimed)
        }
        .boxed()
    }
    fn renew<'a>(&'a self, leases: &'a [Lease], ttl: Duration) -> BoxFuture<'a, Result<Vec<Lease>>> {
        self.set_owner(leases, Some(ttl)).boxed()
    }
    fn release<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<()>> {
        // What is another's by now is not given back.
        async move { self.set_owner(leases, None).await.map(drop) }.boxed()
    }
    fn save<'a>(&'a self, moves: &'a [(Lease, Anchor)]) -> BoxFuture<'a, Result<Vec<Lease>>> {
        async move {
            let save = || {
                sqlx::query(SAVE)
                    .bind(column(moves, |(lease, _)| lease.name.as_str()))
                    .bind(column(moves, |(lease, _)| i32::from(lease.shard)))
                    .bind(column(moves, |(lease, _)| lease.owner))
                    .bind(column(moves, |(lease, _)| lease.fence))
                    .bind(column(moves, |(_, to)| to.position.0))
                    .bind(column(moves, |(_, to)| to.event))
            };
            let (held,): (Vec<bool>,) = self.row(save).await?;
            let lost = moves.iter().zip(held).filter(|(_, held)| !held);
            Ok(lost.map(|((lease, _), _)| lease.clone()).collect())
        }
        .boxed()
    }
    fn checkpoints(&self) -> BoxFuture<'_, Result<Vec<Checkpoint>>> {
        self.rows(|| sqlx::query(CHECKPOINTS)).boxed()
    }
    fn anchors<'a>(&'a self, name: &'a str, shard: u16) -> BoxFuture<'a, Result<Vec<Anchor>>> {
        let anchors = move || sqlx::query(ANCHORS).bind(name).bind(i32::from(shard));
        async move {
            let anchors: Vec<(i64, Uuid)> = self.rows(anchors).await?;
            Ok(anchors
                .into_iter()
                .map(|(position, event)| anchor(position, Some(event)))
                .collect())
        }
        .boxed()
    }
    fn reset<'a>(&'a self, name: &'a str, shard: u16, to: Anchor) -> BoxFuture<'a, Result<()>> {
        let reset = move || {
            let reset = sqlx::query(RESET).bind(name).bind(i32::from(shard));
            reset.bind(to.position.0).bind(to.event)
        };
        self.run(reset).boxed()
    }
    fn schedule<'a>(&'a self, lease: &'a Lease, timers: &'a [Timer]) -> BoxFuture<'a, Result<()>> {
        // Of the same id the last one counts.
        let timers: BTreeMap<_, _> = timers.iter().map(|timer| (timer.id.as_str(), timer)).collect();
        let timers: Vec<_> = timers.into_values().collect();
        let put = move |statement: Statement| {
            statement
                .bind(column(&timers, |timer| timer.id.as_str()))
                .bind(column(&timers, |timer| At(timer.due)))
                .bind(column(&timers, |timer| &timer.payload[..]))
        };
        self.under(lease, put, SCHEDULE).boxed()
    }
    fn unschedule<'a>(&'a self, lease: &'a Lease, ids: &'a [String]) -> BoxFuture<'a, Result<()>> {
        self.under(lease, move |statement| statement.bind(ids), UNSCHEDULE)
            .boxed()
    }
    fn timers<'a>(&'a self, name: &'a str, shard: u16, before: Timestamp) -> BoxFuture<'a, Result<Vec<Timer>>> {
        self.rows(move || sqlx::query(TIMERS).bind(name).bind(i32::from(shard)).bind(At(before)))
            .boxed()
    }
}

/// What `es.claim` answers.
struct Taken {
    rows: i64,
    shard: Vec<i32>,
    fence: Vec<i64>,
    position: Vec<i64>,
    event: Vec<Option<Uuid>>,
    doubt: Vec<i64>,
}

impl FromRow<'_, PgRow> for Taken {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            rows: row.try_get(0)?,
            shard: row.try_get::<Option<_>, _>(1)?.unwrap_or_default(),
            fence: row.try_get::<Option<_>, _>(2)?.unwrap_or_default(),
            position: row.try_get::<Option<_>, _>(3)?.unwrap_or_default(),
            event: row.try_get::<Option<_>, _>(4)?.unwrap_or_default(),
            doubt: row.try_get::<Option<_>, _>(5)?.unwrap_or_default(),
        })
    }
}

impl Taken {
    fn claimed(self, ask: &Claim) -> Vec<Claimed> {
        let shards = self.shard.into_iter().zip(self.fence);
        let places = self.position.into_iter().zip(self.event).zip(self.doubt);
        let claimed = |((shard, fence), ((position, event), doubt))| Claimed {
            lease: Lease {
                name: ask.name.clone(),
                shard: number(shard),
                owner: ask.owner,
                fence,
            },
            checkpoint: anchor(position, event),
            doubt: Position(doubt),
        };
        shards.zip(places).map(claimed).collect()
    }
}

impl FromRow<'_, PgRow> for Checkpoint {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let owner: Option<Uuid> = row.try_get(4)?;
        let until: Option<At> = row.try_get(5)?;
        Ok(Self {
            name: row.try_get(0)?,
            shard: number(row.try_get(1)?),
            at: anchor(row.try_get(2)?, row.try_get(3)?),
            owner: owner.zip(until.map(|until| until.0)),
        })
    }
}

impl FromRow<'_, PgRow> for Timer {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get(0)?,
            due: row.try_get::<At, _>(1)?.0,
            payload: row.try_get(2)?,
        })
    }
}

pub(super) fn anchor(position: i64, event: Option<Uuid>) -> Anchor {
    Anchor {
        position: Position(position),
        event,
    }
}

/// A shard's number, which was written from one.
pub(super) fn number(shard: i32) -> u16 {
    u16::try_from(shard).unwrap_or(u16::MAX)
}

fn span(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn column<'a, R, T>(rows: &'a [R], of: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

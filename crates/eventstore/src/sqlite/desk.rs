//! Who reads what, how far, in a SQLite file.

use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::{log::SqliteLog, row};
use crate::{
    Anchor, Error, Lease, Position, Result,
    backend::{ANCHOR_EVERY, ANCHORS, Checkpoint, Claim, Claimed, Desk, Member, TTL_MAX, Timer, micros},
    backlog::BEGUN_SPAN,
};

/// Takes free shards. Whoever still holds one did not end well.
fn claim_sql() -> String {
    let doubt = in_doubt();
    format!(
        "UPDATE es_checkpoint SET owner = ?2, fence = fence + 1, lease_until = ?3,
             doubt = CASE WHEN owner IS NULL THEN doubt ELSE {doubt} END
         WHERE name = ?1 AND shard IN (SELECT shard FROM es_checkpoint
             WHERE name = ?1 AND (owner IS NULL OR lease_until <= ?4 OR lease_until > ?4 + ?6) ORDER BY shard LIMIT ?5)
         RETURNING shard, fence, pos, event_id, doubt"
    )
}
/// Up to where an owner that did not end well may have begun messages.
pub(super) fn in_doubt() -> String {
    format!("max(doubt, min(pos + {BEGUN_SPAN}, coalesce((SELECT max(e.pos) FROM es_event e), 0)))")
}
/// What every write under a lease asks for.
const HELD: &str = "name = ?1 AND shard = ?2 AND owner = ?3 AND fence = ?4";

impl Desk for SqliteLog {
    fn join<'a>(
        &'a self,
        name: &'a str,
        owner: Uuid,
        about: Option<&'a str>,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<Member>>> {
        let (name, about) = (name.to_owned(), about.map(str::to_owned));
        self.change(move |tx| join(tx, &name, owner, about.as_deref(), ttl))
            .boxed()
    }
    fn leave<'a>(&'a self, name: &'a str, owner: Uuid) -> BoxFuture<'a, Result<()>> {
        let name = name.to_owned();
        self.change(move |tx| {
            let mut leave = tx.prepare_cached("DELETE FROM es_member WHERE name = ?1 AND process = ?2")?;
            leave.execute(params![name, &owner.as_bytes()[..]]).map(drop)
        })
        .boxed()
    }
    fn claim<'a>(&'a self, ask: &'a Claim) -> BoxFuture<'a, Result<Vec<Claimed>>> {
        let ask = ask.clone();
        async move { self.change(move |tx| claim(tx, &ask)).await? }.boxed()
    }
    fn renew<'a>(&'a self, leases: &'a [Lease], ttl: Duration) -> BoxFuture<'a, Result<Vec<Lease>>> {
        let mut leases = leases.to_vec();
        self.change(move |tx| {
            let until = micros() + span(ttl);
            let mut failed = None;
            leases.retain(|lease| {
                set_owner(tx, lease, Some(until)).unwrap_or_else(|error| failed.replace(error).is_none())
            });
            failed.map_or(Ok(leases), Err)
        })
        .boxed()
    }
    fn release<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<()>> {
        let leases = leases.to_vec();
        // What is another's by now is not given back.
        self.change(move |tx| leases.iter().try_for_each(|lease| set_owner(tx, lease, None).map(drop)))
            .boxed()
    }
    fn save<'a>(&'a self, moves: &'a [(Lease, Anchor)]) -> BoxFuture<'a, Result<Vec<Lease>>> {
        let moves = moves.to_vec();
        self.change(move |tx| {
            let mut lost = Vec::new();
            for (lease, to) in moves {
                if !move_to(tx, &lease, to)? {
                    lost.push(lease);
                }
            }
            Ok(lost)
        })
        .boxed()
    }
    fn checkpoints(&self) -> BoxFuture<'_, Result<Vec<Checkpoint>>> {
        self.query(checkpoints).boxed()
    }
    fn anchors<'a>(&'a self, name: &'a str, shard: u16) -> BoxFuture<'a, Result<Vec<Anchor>>> {
        let name = name.to_owned();
        self.query(move |connection| {
            let select = "SELECT pos, event_id FROM es_anchor WHERE name = ?1 AND shard = ?2 ORDER BY pos DESC";
            let mut select = connection.prepare_cached(select)?;
            select.query_map(params![name, shard], |row| anchor(row, 0))?.collect()
        })
        .boxed()
    }
    fn reset<'a>(&'a self, name: &'a str, shard: u16, to: Anchor) -> BoxFuture<'a, Result<()>> {
        let name = name.to_owned();
        self.change(move |tx| reset(tx, &name, shard, to)).boxed()
    }
    fn schedule<'a>(&'a self, lease: &'a Lease, timers: &'a [Timer]) -> BoxFuture<'a, Result<()>> {
        let (lease, timers) = (lease.clone(), timers.to_vec());
        async move { self.change(move |tx| schedule(tx, &lease, &timers)).await? }.boxed()
    }
    fn unschedule<'a>(&'a self, lease: &'a Lease, ids: &'a [String]) -> BoxFuture<'a, Result<()>> {
        let (lease, ids) = (lease.clone(), ids.to_vec());
        async move { self.change(move |tx| unschedule(tx, &lease, &ids)).await? }.boxed()
    }
    fn timers<'a>(&'a self, name: &'a str, shard: u16, before: Timestamp) -> BoxFuture<'a, Result<Vec<Timer>>> {
        let name = name.to_owned();
        self.query(move |connection| timers(connection, &name, shard, before))
            .boxed()
    }
}

fn join(tx: &Connection, name: &str, owner: Uuid, about: Option<&str>, ttl: Duration) -> rusqlite::Result<Vec<Member>> {
    let now = micros();
    let say = "INSERT INTO es_member (name, process, about, lease_until) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO UPDATE SET about = excluded.about, lease_until = excluded.lease_until";
    let (process, about) = (&owner.as_bytes()[..], about.map(str::as_bytes));
    tx.prepare_cached(say)?
        .execute(params![name, process, about, now + span(ttl)])?;
    tx.prepare_cached("DELETE FROM es_member WHERE lease_until <= ?1 OR lease_until > ?1 + ?2")?
        .execute([now, span(TTL_MAX)])?;
    let mut live = tx.prepare_cached("SELECT process, about FROM es_member WHERE name = ?1 ORDER BY process")?;
    let member = |row: &Row<'_>| {
        let about: Option<Vec<u8>> = row.get(1)?;
        Ok(row::id(row, 0)?.map(|id| Member {
            id,
            about: about.and_then(|about| String::from_utf8(about).ok()),
        }))
    };
    let live = live.query_map([name], member)?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(live.into_iter().flatten().collect())
}

fn claim(tx: &Connection, ask: &Claim) -> rusqlite::Result<Result<Vec<Claimed>>> {
    let count = || {
        tx.prepare_cached("SELECT count(*) FROM es_checkpoint WHERE name = ?1")?
            .query_row([&ask.name], |row| row.get::<_, i64>(0))
    };
    let mut rows = count()?;
    if rows == 0 {
        begin(tx, ask)?;
        rows = count()?;
    }
    if let Err(error) = ask.check_shards(rows as usize) {
        return Ok(Err(error));
    }
    let now = micros();
    let mut claim = tx.prepare_cached(&claim_sql())?;
    let claimed = claim.query_map(
        params![
            ask.name,
            &ask.owner.as_bytes()[..],
            now + span(ask.ttl),
            now,
            ask.most,
            span(TTL_MAX)
        ],
        |row| {
            let lease = Lease {
                name: ask.name.clone(),
                shard: row.get(0)?,
                owner: ask.owner,
                fence: row.get(1)?,
            };
            Ok(Claimed {
                lease,
                checkpoint: anchor(row, 2)?,
                doubt: Position(row.get(4)?),
            })
        },
    )?;
    claimed.collect::<rusqlite::Result<_>>().map(Ok)
}

/// Makes the rows of a new subscription.
fn begin(tx: &Connection, ask: &Claim) -> rusqlite::Result<()> {
    let mut row =
        tx.prepare_cached("INSERT INTO es_checkpoint (name, shard, pos, event_id) VALUES (?1, ?2, ?3, ?4)")?;
    for shard in 0..ask.shards {
        row.execute(params![
            ask.name,
            shard,
            ask.start.position.0,
            bytes(ask.start.event.as_ref())
        ])?;
        keep(tx, &ask.name, shard, ask.start)?;
    }
    Ok(())
}

/// Prolongs a lease, or gives it back; answers whether it still held.
fn set_owner(tx: &Connection, lease: &Lease, until: Option<i64>) -> rusqlite::Result<bool> {
    let owner = until.map(|_| lease.owner);
    let set = format!("UPDATE es_checkpoint SET owner = ?5, lease_until = ?6 WHERE {HELD}");
    let Lease {
        name,
        shard,
        owner: held_by,
        fence,
    } = lease;
    let row = params![
        name,
        shard,
        &held_by.as_bytes()[..],
        fence,
        bytes(owner.as_ref()),
        until
    ];
    Ok(tx.prepare_cached(&set)?.execute(row)? == 1)
}

/// Moves a checkpoint forward, if its lease holds; answers whether it does. Keeps where it is, once a second at most.
pub(super) fn move_to(tx: &Connection, lease: &Lease, to: Anchor) -> rusqlite::Result<bool> {
    let set = format!(
        "UPDATE es_checkpoint SET event_id = iif(?5 > pos, ?6, event_id), pos = max(pos, ?5),
            anchored_at = iif(?5 > pos AND ?6 IS NOT NULL AND anchored_at NOT BETWEEN ?8 AND ?7, ?7, anchored_at)
          WHERE {HELD} RETURNING anchored_at"
    );
    let Lease {
        name,
        shard,
        owner,
        fence,
    } = lease;
    let now = micros();
    let row = params![
        name,
        shard,
        &owner.as_bytes()[..],
        fence,
        to.position.0,
        bytes(to.event.as_ref()),
        now,
        now - span(ANCHOR_EVERY)
    ];
    let mut set = tx.prepare_cached(&set)?;
    let anchored_at = set.query_row(row, |row| row.get::<_, i64>(0)).optional()?;
    if anchored_at == Some(now) {
        keep(tx, name, *shard, to)?;
    }
    Ok(anchored_at.is_some())
}

/// Keeps an anchor, and the newest 64 of the shard.
fn keep(tx: &Connection, name: &str, shard: u16, at: Anchor) -> rusqlite::Result<()> {
    let Some(event) = at.event else { return Ok(()) };
    let mut insert =
        tx.prepare_cached("INSERT OR REPLACE INTO es_anchor (name, shard, pos, event_id) VALUES (?1, ?2, ?3, ?4)")?;
    insert.execute(params![name, shard, at.position.0, &event.as_bytes()[..]])?;
    let forget = "DELETE FROM es_anchor WHERE name = ?1 AND shard = ?2 AND pos <= (SELECT pos FROM es_anchor
        WHERE name = ?1 AND shard = ?2 ORDER BY pos DESC LIMIT 1 OFFSET ?3)";
    tx.prepare_cached(forget)?
        .execute(params![name, shard, ANCHORS as i64])
        .map(drop)
}

fn checkpoints(connection: &Connection) -> rusqlite::Result<Vec<Checkpoint>> {
    let select = "SELECT name, shard, pos, event_id, owner, lease_until FROM es_checkpoint ORDER BY name, shard";
    let mut select = connection.prepare_cached(select)?;
    let rows = select.query_map([], |row| {
        let until: Option<i64> = row.get(5)?;
        let owner = match (row::id(row, 4)?, until) {
            (Some(owner), Some(_)) => Some((owner, row::time(row, 5)?)),
            _ => None,
        };
        Ok(Checkpoint {
            name: row.get(0)?,
            shard: row.get(1)?,
            at: anchor(row, 2)?,
            owner,
        })
    })?;
    rows.collect()
}

fn reset(tx: &Connection, name: &str, shard: u16, to: Anchor) -> rusqlite::Result<()> {
    let set = "UPDATE es_checkpoint SET pos = ?3, event_id = ?4, owner = NULL, lease_until = NULL, fence = fence + 1
        WHERE name = ?1 AND shard = ?2";
    tx.prepare_cached(set)?
        .execute(params![name, shard, to.position.0, bytes(to.event.as_ref())])?;
    let forget = "DELETE FROM es_anchor WHERE name = ?1 AND shard = ?2 AND pos > ?3";
    tx.prepare_cached(forget)?
        .execute(params![name, shard, to.position.0])
        .map(drop)
}

/// The first answer is the database's, the second the lease's.
pub(super) fn check(tx: &Connection, lease: &Lease) -> rusqlite::Result<Result<()>> {
    let held = format!("SELECT 1 FROM es_checkpoint WHERE {HELD}");
    let Lease {
        name,
        shard,
        owner,
        fence,
    } = lease;
    let row = params![name, shard, &owner.as_bytes()[..], fence];
    let held = tx.prepare_cached(&held)?.query_row(row, |_| Ok(())).optional()?;
    Ok(held.ok_or_else(|| Error::Fenced {
        name: name.clone(),
        shard: *shard,
    }))
}

fn schedule(tx: &Connection, lease: &Lease, timers: &[Timer]) -> rusqlite::Result<Result<()>> {
    let held = check(tx, lease)?;
    let insert = "INSERT OR REPLACE INTO es_timer (name, shard, id, due_at, payload) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut insert = tx.prepare_cached(insert)?;
    for timer in timers.iter().filter(|_| held.is_ok()) {
        insert.execute(params![
            lease.name,
            lease.shard,
            timer.id,
            timer.due.as_microsecond(),
            timer.payload
        ])?;
    }
    Ok(held)
}

fn unschedule(tx: &Connection, lease: &Lease, ids: &[String]) -> rusqlite::Result<Result<()>> {
    let held = check(tx, lease)?;
    let mut delete = tx.prepare_cached("DELETE FROM es_timer WHERE name = ?1 AND shard = ?2 AND id = ?3")?;
    for id in ids.iter().filter(|_| held.is_ok()) {
        delete.execute(params![lease.name, lease.shard, id])?;
    }
    Ok(held)
}

fn timers(connection: &Connection, name: &str, shard: u16, before: Timestamp) -> rusqlite::Result<Vec<Timer>> {
    let select =
        "SELECT id, due_at, payload FROM es_timer WHERE name = ?1 AND shard = ?2 AND due_at < ?3 ORDER BY due_at, id";
    let mut select = connection.prepare_cached(select)?;
    let timer = |row: &Row<'_>| {
        Ok(Timer {
            id: row.get(0)?,
            due: row::time(row, 1)?,
            payload: row.get(2)?,
        })
    };
    select
        .query_map(params![name, shard, before.as_microsecond()], timer)?
        .collect()
}

pub(super) fn anchor(row: &Row<'_>, first: usize) -> rusqlite::Result<Anchor> {
    Ok(Anchor {
        position: Position(row.get(first)?),
        event: row::id(row, first + 1)?,
    })
}

pub(super) fn bytes(id: Option<&Uuid>) -> Option<&[u8]> {
    id.map(|id| &id.as_bytes()[..])
}

fn span(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_kept_once_a_second_whatever_the_clock_did() {
        let mut connection = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&mut connection).unwrap();
        let lease = Lease {
            name: "reader".to_owned(),
            shard: 0,
            owner: Uuid::now_v7(),
            fence: 1,
        };
        let row = "INSERT INTO es_checkpoint (name, shard, owner, fence) VALUES ('reader', 0, ?1, 1)";
        connection.execute(row, [&lease.owner.as_bytes()[..]]).unwrap();
        let second = 1_000_000;
        // It moves, and the last place was kept so long ago.
        for (position, ago, kept) in [
            (1, 60 * second, vec![1]),
            (2, 0, vec![1]),
            (3, 2 * second, vec![1, 3]),
            (4, -60 * second, vec![1, 3, 4]),
        ] {
            let last = "UPDATE es_checkpoint SET anchored_at = ?1";
            connection.execute(last, [micros() - ago]).unwrap();
            let event = Some(Uuid::from_u128(position as u128));
            let position = Position(position);
            assert!(move_to(&connection, &lease, Anchor { position, event }).unwrap());
            let mut select = connection.prepare("SELECT pos FROM es_anchor ORDER BY pos").unwrap();
            let anchors: rusqlite::Result<Vec<i64>> = select.query_map([], |row| row.get(0)).unwrap().collect();
            assert_eq!(anchors.unwrap(), kept);
        }
        let stale = Lease { fence: 2, ..lease };
        assert!(!move_to(&connection, &stale, Anchor::default()).unwrap());
    }
}

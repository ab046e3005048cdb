//! Who reads what, how far, in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
    time::Duration,
};

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use jiff::Timestamp;
use uuid::Uuid;

use super::MemoryLog;
use crate::{
    Anchor, Error, Lease, Position, Result, Tracking,
    backend::{ANCHOR_EVERY, ANCHORS, Checkpoint, Claim, Claimed, Desk, Log, Member, TTL_MAX, Timer},
    backlog::BEGUN_SPAN,
};

/// What the desk keeps. It lies under the ledger's own lock, so that a checkpoint can move with a batch.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    shards: BTreeMap<(String, u16), Shard>,
    /// Who works on what, until when they have said so, and what they say of themselves.
    members: BTreeMap<(String, Uuid), (Timestamp, Option<String>)>,
}

#[derive(Debug, Default)]
struct Shard {
    at: Anchor,
    owner: Option<(Uuid, Timestamp)>,
    fence: i64,
    doubt: Position,
    anchors: BTreeMap<Position, Uuid>,
    anchored_at: Option<Timestamp>,
    timers: BTreeMap<String, Timer>,
    /// The order in which timers fall due.
    due: BTreeSet<(Timestamp, String)>,
}

impl Shard {
    fn move_to(&mut self, to: Anchor, now: Timestamp) {
        if to.position <= self.at.position {
            return;
        }
        self.at = to;
        let is_due = self.anchored_at.is_none_or(|at| now < at || at + ANCHOR_EVERY <= now);
        if let Some(event) = to.event.filter(|_| is_due) {
            self.anchors.insert(to.position, event);
            self.anchored_at = Some(now);
        }
        while self.anchors.len() > ANCHORS {
            self.anchors.pop_first();
        }
    }
    fn cancel(&mut self, id: &str) {
        if let Some(timer) = self.timers.remove(id) {
            self.due.remove(&(timer.due, timer.id));
        }
    }
}

/// Whether a lease has ended, or was written before the clock was set back.
fn lapsed(until: Timestamp, now: Timestamp) -> bool {
    until <= now || until > now + TTL_MAX
}

impl Shelf {
    /// Moves a checkpoint in the same commit as a batch, if its lease still holds.
    pub(super) fn track(&mut self, tracking: &Tracking, now: Timestamp) -> Result<()> {
        self.held(&tracking.lease)?.move_to(tracking.to, now);
        Ok(())
    }

    /// Whether a write under a lease goes through.
    pub(super) fn holds(&mut self, lease: &Lease) -> bool {
        self.held(lease).is_ok()
    }
    /// A shard for a write under a lease.
    fn held(&mut self, lease: &Lease) -> Result<&mut Shard> {
        let Lease {
            name,
            shard,
            owner,
            fence,
        } = lease;
        let row = self.shards.get_mut(&(name.clone(), *shard));
        let held = row.filter(|row| row.fence == *fence && row.owner.is_some_and(|(is, _)| is == *owner));
        held.ok_or_else(|| Error::Fenced {
            name: name.clone(),
            shard: *shard,
        })
    }
    fn join(&mut self, name: &str, member: Member, now: Timestamp, until: Timestamp) -> Vec<Member> {
        self.members.insert((name.to_owned(), member.id), (until, member.about));
        self.members.retain(|_, (until, _)| !lapsed(*until, now));
        self.members
            .iter()
            .filter(|((of, _), _)| of == name)
            .map(|((_, id), (_, about))| Member {
                id: *id,
                about: about.clone(),
            })
            .collect()
    }
    fn claim(&mut self, ask: &Claim, head: Position, now: Timestamp) -> Result<Vec<Claimed>> {
        let rows = |shelf: &Self| shelf.shards.keys().filter(|(name, _)| *name == ask.name).count();
        if rows(self) == 0 {
            let anchors: BTreeMap<_, _> = ask
                .start
                .event
                .map(|event| (ask.start.position, event))
                .into_iter()
                .collect();
            for shard in 0..ask.shards {
                let new = Shard {
                    at: ask.start,
                    anchors: anchors.clone(),
                    ..Shard::default()
                };
                self.shards.insert((ask.name.clone(), shard), new);
            }
        }
        ask.check_shards(rows(self))?;
        let free = |row: &Shard| row.owner.is_none_or(|(_, until)| lapsed(until, now));
        let rows = self
            .shards
            .iter_mut()
            .filter(|((name, _), row)| *name == ask.name && free(row));
        let claimed = rows.take(ask.most.into()).map(|((name, shard), row)| {
            if row.owner.is_some() {
                // It did not end well.
                row.doubt = row.doubt.max(Position(row.at.position.0 + BEGUN_SPAN).min(head));
            }
            row.owner = Some((ask.owner, now + ask.ttl));
            row.fence += 1;
            let lease = Lease {
                name: name.clone(),
                shard: *shard,
                owner: ask.owner,
                fence: row.fence,
            };
            Claimed {
                lease,
                checkpoint: row.at,
                doubt: row.doubt,
            }
        });
        Ok(claimed.collect())
    }
    fn renew(&mut self, leases: &[Lease], until: Timestamp) -> Vec<Lease> {
        let mut kept = leases.to_vec();
        kept.retain(|lease| {
            self.held(lease)
                .map(|row| row.owner = Some((lease.owner, until)))
                .is_ok()
        });
        kept
    }
    fn release(&mut self, leases: &[Lease]) {
        for lease in leases {
            // What is another's by now is not given back.
            if let Ok(row) = self.held(lease) {
                row.owner = None;
            }
        }
    }
    fn save(&mut self, moves: &[(Lease, Anchor)], now: Timestamp) -> Vec<Lease> {
        let lost = moves
            .iter()
            .filter(|(lease, to)| self.held(lease).map(|row| row.move_to(*to, now)).is_err());
        lost.map(|(lease, _)| lease.clone()).collect()
    }
    fn reset(&mut self, name: &str, shard: u16, to: Anchor) {
        if let Some(row) = self.shards.get_mut(&(name.to_owned(), shard)) {
            row.owner = None;
            row.fence += 1;
            row.at = to;
            row.anchors.retain(|position, _| *position <= to.position);
        }
    }
    fn schedule(&mut self, lease: &Lease, timers: &[Timer]) -> Result<()> {
        let row = self.held(lease)?;
        for timer in timers {
            row.cancel(&timer.id);
            row.due.insert((timer.due, timer.id.clone()));
            row.timers.insert(timer.id.clone(), timer.clone());
        }
        Ok(())
    }
    fn timers(&self, name: &str, shard: u16, before: Timestamp) -> Vec<Timer> {
        let Some(row) = self.shards.get(&(name.to_owned(), shard)) else {
            return Vec::new();
        };
        row.due
            .iter()
            .take_while(|(due, _)| *due < before)
            .map(|(_, id)| row.timers[id].clone())
            .collect()
    }
    fn checkpoints(&self) -> Vec<Checkpoint> {
        let row = |((name, shard), row): (&(String, u16), &Shard)| Checkpoint {
            name: name.clone(),
            shard: *shard,
            at: row.at,
            owner: row.owner,
        };
        self.shards.iter().map(row).collect()
    }
}

impl Desk for MemoryLog {
    fn join<'a>(
        &'a self,
        name: &'a str,
        owner: Uuid,
        about: Option<&'a str>,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<Member>>> {
        let now = self.now();
        let member = Member {
            id: owner,
            about: about.map(str::to_owned),
        };
        ready(Ok(self.state().shelf.join(name, member, now, now + ttl))).boxed()
    }
    fn leave<'a>(&'a self, name: &'a str, owner: Uuid) -> BoxFuture<'a, Result<()>> {
        self.state().shelf.members.remove(&(name.to_owned(), owner));
        ready(Ok(())).boxed()
    }
    fn claim<'a>(&'a self, ask: &'a Claim) -> BoxFuture<'a, Result<Vec<Claimed>>> {
        let now = self.now();
        let mut state = self.state();
        let head = state.ledger.head().position;
        let claimed = state.shelf.claim(ask, head, now);
        drop(state);
        ready(claimed).boxed()
    }
    fn renew<'a>(&'a self, leases: &'a [Lease], ttl: Duration) -> BoxFuture<'a, Result<Vec<Lease>>> {
        let until = self.now() + ttl;
        ready(Ok(self.state().shelf.renew(leases, until))).boxed()
    }
    fn release<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<()>> {
        self.state().shelf.release(leases);
        ready(Ok(())).boxed()
    }
    fn save<'a>(&'a self, moves: &'a [(Lease, Anchor)]) -> BoxFuture<'a, Result<Vec<Lease>>> {
        let now = self.now();
        ready(Ok(self.state().shelf.save(moves, now))).boxed()
    }
    fn checkpoints(&self) -> BoxFuture<'_, Result<Vec<Checkpoint>>> {
        ready(Ok(self.state().shelf.checkpoints())).boxed()
    }
    fn anchors<'a>(&'a self, name: &'a str, shard: u16) -> BoxFuture<'a, Result<Vec<Anchor>>> {
        let state = self.state();
        let row = state.shelf.shards.get(&(name.to_owned(), shard));
        let anchors = row.into_iter().flat_map(|row| row.anchors.iter().rev());
        let anchors = anchors
            .map(|(position, event)| Anchor {
                position: *position,
                event: Some(*event),
            })
            .collect();
        drop(state);
        ready(Ok(anchors)).boxed()
    }
    fn reset<'a>(&'a self, name: &'a str, shard: u16, to: Anchor) -> BoxFuture<'a, Result<()>> {
        self.state().shelf.reset(name, shard, to);
        ready(Ok(())).boxed()
    }
    fn schedule<'a>(&'a self, lease: &'a Lease, timers: &'a [Timer]) -> BoxFuture<'a, Result<()>> {
        ready(self.state().shelf.schedule(lease, timers)).boxed()
    }
    fn unschedule<'a>(&'a self, lease: &'a Lease, ids: &'a [String]) -> BoxFuture<'a, Result<()>> {
        let mut state = self.state();
        let done = state
            .shelf
            .held(lease)
            .map(|row| ids.iter().for_each(|id| row.cancel(id)));
        drop(state);
        ready(done).boxed()
    }
    fn timers<'a>(&'a self, name: &'a str, shard: u16, before: Timestamp) -> BoxFuture<'a, Result<Vec<Timer>>> {
        ready(Ok(self.state().shelf.timers(name, shard, before))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_kept_once_a_second_whatever_the_clock_did() {
        let mut shard = Shard::default();
        let second = |second| Timestamp::from_second(second).unwrap();
        for (position, now) in [(1, 10), (2, 10), (3, 11), (4, 11), (5, 5), (6, 5), (7, 6)] {
            let event = Some(Uuid::from_u128(position as u128));
            let position = Position(position);
            shard.move_to(Anchor { position, event }, second(now));
        }
        let kept: Vec<_> = shard.anchors.keys().map(|position| position.0).collect();
        assert_eq!(kept, [1, 3, 5, 7]);
        for n in 8..100 {
            let event = Some(Uuid::from_u128(n as u128));
            let position = Position(n);
            shard.move_to(Anchor { position, event }, second(n));
        }
        let kept: Vec<_> = shard.anchors.keys().map(|position| position.0).collect();
        assert_eq!(kept, (36..100).collect::<Vec<_>>());
    }
}

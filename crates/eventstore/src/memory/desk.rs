//! Who reads what, how far, in memory.

use std::{collections::BTreeMap, time::Duration};

use futures_core::future::BoxFuture;
use jiff::Timestamp;
use uuid::Uuid;

use super::MemoryLog;
use crate::{
    Anchor, Error, Lease, Result, Tracking,
    backend::{Checkpoint, Claim, Claimed, Desk, Timer},
};

/// What the desk keeps. It lies under the ledger's own lock, so that a checkpoint can move with a batch.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    shards: BTreeMap<(String, u16), Shard>,
}

#[derive(Debug, Default)]
struct Shard {
    at: Anchor,
    owner: Option<(Uuid, Timestamp)>,
    fence: i64,
}

impl Shelf {
    /// Moves a checkpoint in the same commit as a batch, if its lease still holds.
    pub(super) fn track(&mut self, tracking: &Tracking) -> Result<()> {
        let Lease {
            name,
            shard,
            owner,
            fence,
        } = &tracking.lease;
        let row = self.shards.get_mut(&(name.clone(), *shard));
        let held = row.filter(|row| row.fence == *fence && row.owner.is_some_and(|(is, _)| is == *owner));
        let row = held.ok_or_else(|| Error::Fenced {
            name: name.clone(),
            shard: *shard,
        })?;
        row.at = tracking.to;
        Ok(())
    }
}

impl Desk for MemoryLog {
    fn claim<'a>(&'a self, _ask: &'a Claim) -> BoxFuture<'a, Result<Vec<Claimed>>> {
        todo!()
    }
    fn renew<'a>(&'a self, _leases: &'a [Lease], _ttl: Duration) -> BoxFuture<'a, Result<Vec<Lease>>> {
        todo!()
    }
    fn release<'a>(&'a self, _leases: &'a [Lease]) -> BoxFuture<'a, Result<()>> {
        todo!()
    }
    fn save<'a>(&'a self, _moves: &'a [(Lease, Anchor)]) -> BoxFuture<'a, Result<Vec<Lease>>> {
        todo!()
    }
    fn checkpoints(&self) -> BoxFuture<'_, Result<Vec<Checkpoint>>> {
        todo!()
    }
    fn anchors<'a>(&'a self, _name: &'a str, _shard: u16) -> BoxFuture<'a, Result<Vec<Anchor>>> {
        todo!()
    }
    fn reset<'a>(&'a self, _name: &'a str, _shard: u16, _to: Anchor) -> BoxFuture<'a, Result<()>> {
        todo!()
    }
    fn schedule<'a>(&'a self, _lease: &'a Lease, _timers: &'a [Timer]) -> BoxFuture<'a, Result<()>> {
        todo!()
    }
    fn unschedule<'a>(&'a self, _lease: &'a Lease, _ids: &'a [String]) -> BoxFuture<'a, Result<()>> {
        todo!()
    }
    fn timers<'a>(&'a self, _name: &'a str, _shard: u16, _before: Timestamp) -> BoxFuture<'a, Result<Vec<Timer>>> {
        todo!()
    }
}

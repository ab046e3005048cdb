//! Who reads what, how far, in a SQLite file.

use std::time::Duration;

use futures_core::future::BoxFuture;
use jiff::Timestamp;

use super::log::SqliteLog;
use crate::{
    Anchor, Lease, Result,
    backend::{Checkpoint, Claim, Claimed, Desk, Timer},
};

impl Desk for SqliteLog {
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

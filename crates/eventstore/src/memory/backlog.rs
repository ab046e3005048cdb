//! What a bus's groups have begun, and what they gave up, in memory.

use std::{collections::BTreeMap, future::ready};

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use jiff::Timestamp;
use sagamill_bus::Topic;
use uuid::Uuid;

use super::{MemoryLog, log::State};
use crate::{
    Anchor, Lease, Position, Result,
    backend::Log,
    backlog::{Backlog, Begun, Burial, Grave, Graves, Note, Open},
    census::Noted,
};

/// Lies under the ledger's own lock, beside the leases that it is written under.
#[derive(Debug, Default)]
pub(super) struct Drawer {
    /// By subscription and shard, then by position.
    open: BTreeMap<(String, u16), BTreeMap<Position, Open>>,
    dead: BTreeMap<i64, Dead>,
    deaths: i64,
}

#[derive(Debug)]
struct Dead {
    name: String,
    shard: u16,
    burial: Burial,
    died: Timestamp,
}

impl Drawer {
    fn backlog(&self, name: &str, shard: u16, after: Position) -> Begun {
        let open = self.open.get(&(name.to_owned(), shard));
        let of = |dead: &&Dead| dead.name == name && dead.shard == shard && dead.burial.at.position > after;
        let mut buried: Vec<Anchor> = self.dead.values().filter(of).map(|dead| dead.burial.at).collect();
        buried.sort_by_key(|at| at.position);
        Begun {
            open: open.into_iter().flat_map(BTreeMap::values).cloned().collect(),
            buried,
        }
    }
    pub(super) fn noted(&self, name: &str, after: Position) -> Noted {
        let open = self.open.iter().filter(|((of, _), _)| of == name);
        let begun = open.flat_map(|((_, shard), open)| open.keys().map(|position| (*shard, *position)));
        let dead = self.dead.values().filter(|dead| dead.name == name);
        let buried = dead.map(|dead| (dead.shard, dead.burial.at.position));
        Noted {
            begun: begun.collect(),
            buried: buried.filter(|(_, position)| *position > after).collect(),
        }
    }
    fn write(&mut self, lease: &Lease, note: Note, now: Timestamp) {
        let shard = self.open.entry((lease.name.clone(), lease.shard)).or_default();
        match note {
            Note::Keep(open) => {
                shard.insert(open.at.position, open);
            }
            Note::Forget(position) => {
                shard.remove(&position);
            }
            Note::Bury(burial) => {
                shard.remove(&burial.at.position);
                self.bury(lease, burial, now);
            }
        }
    }
    fn bury(&mut self, lease: &Lease, burial: Burial, died: Timestamp) {
        let same = |of: &Burial| of.topic == burial.topic && of.group == burial.group && of.message == burial.message;
        self.dead.retain(|_, dead| !same(&dead.burial));
        self.deaths += 1;
        let (name, shard) = (lease.name.clone(), lease.shard);
        self.dead.insert(
            self.deaths,
            Dead {
                name,
                shard,
                burial,
                died,
            },
        );
    }
    fn graveyards(&self) -> Vec<(Topic, String, usize)> {
        let mut counts: BTreeMap<(Topic, String), usize> = BTreeMap::new();
        for Dead { burial, .. } in self.dead.values() {
            *counts.entry((burial.topic.clone(), burial.group.clone())).or_default() += 1;
        }
        counts
            .into_iter()
            .map(|((topic, group), count)| (topic, group, count))
            .collect()
    }
    fn graves(&self, ask: &Graves) -> Vec<Grave> {
        let wanted = |burial: &Burial| {
            burial.topic == ask.topic
                && burial.group == ask.group
                && ask.message.is_none_or(|message: Uuid| message == burial.message)
        };
        let after = self.dead.range(ask.after.saturating_add(1)..);
        let grave = |(number, dead): (&i64, &Dead)| Grave {
            number: *number,
            at: dead.burial.at,
            attempts: dead.burial.attempts,
            reason: dead.burial.reason.clone(),
            died: dead.died,
        };
        after
            .filter(|(_, dead)| wanted(&dead.burial))
            .map(grave)
            .take(ask.limit)
            .collect()
    }
}

impl Backlog for MemoryLog {
    fn backlog<'a>(&'a self, name: &'a str, shard: u16, after: Position) -> BoxFuture<'a, Result<Begun>> {
        ready(Ok(self.state().drawer.backlog(name, shard, after))).boxed()
    }
    fn note<'a>(&'a self, notes: &'a [(Lease, Note)]) -> BoxFuture<'a, Result<Vec<Lease>>> {
        let now = self.now();
        let mut state = self.state();
        let State { shelf, drawer, .. } = &mut *state;
        let mut lost: Vec<Lease> = Vec::new();
        for (lease, note) in notes {
            if shelf.holds(lease) {
                drawer.write(lease, note.clone(), now);
            } else if !lost.contains(lease) {
                lost.push(lease.clone());
            }
        }
        drop(state);
        ready(Ok(lost)).boxed()
    }
    fn graveyards(&self) -> BoxFuture<'_, Result<Vec<(Topic, String, usize)>>> {
        ready(Ok(self.state().drawer.graveyards())).boxed()
    }
    fn graves<'a>(&'a self, ask: &'a Graves) -> BoxFuture<'a, Result<Vec<Grave>>> {
        ready(Ok(self.state().drawer.graves(ask))).boxed()
    }
    fn exhume(&self, number: i64) -> BoxFuture<'_, Result<bool>> {
        ready(Ok(self.state().drawer.dead.remove(&number).is_some())).boxed()
    }
}

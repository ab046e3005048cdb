//! The events in memory, and the rules by which a batch joins them: the model of what every database must do.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::desk::Shelf;
use crate::{
    Anchor, Append, Batch, Error, Expected, Position, Receipt, Recorded, Result, StreamId, Version, backend::Query,
    entry::Entry,
};

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// That of position n stands at n - 1.
    events: Vec<Recorded>,
    /// On the first event of each append.
    hashes: HashMap<Position, i64>,
    ids: HashMap<Uuid, Position>,
    /// The positions of each stream's events; that of version n stands at n - 1.
    streams: HashMap<StreamId, Vec<Position>>,
}

impl Ledger {
    pub(super) fn head(&self) -> Anchor {
        self.events.last().map_or_else(Anchor::default, |last| Anchor {
            position: last.position,
            event: Some(last.id),
        })
    }
    pub(super) fn at(&self, position: Position) -> Option<&Recorded> {
        self.events.get(usize::try_from(position.0 - 1).ok()?)
    }
    /// The first position whose event is of this time or later; that after the head where there is none.
    pub(super) fn since(&self, time: Timestamp) -> Position {
        Position(self.events.partition_point(|event| event.at < time) as i64 + 1)
    }
    pub(super) fn lose_tail(&mut self, after: Position) {
        let keep = usize::try_from(after.0).unwrap_or(0);
        self.events.truncate(keep);
        self.hashes.retain(|position, _| *position <= after);
        self.ids.retain(|_, position| *position <= after);
        self.streams
            .values_mut()
            .for_each(|positions| positions.retain(|position| *position <= after));
        self.streams.retain(|_, positions| !positions.is_empty());
    }

    /// Stores all of a batch or nothing.
    pub(super) fn take(&mut self, entry: Entry, shelf: &mut Shelf, now: Timestamp) -> Result<Vec<Receipt>> {
        if let Some(first) = self.repeat(&entry)? {
            return Ok(first);
        }
        self.judge(&entry.batch)?;
        if let Some(tracking) = &entry.batch.tracking {
            shelf.track(tracking, now)?;
        }
        let at = self.events.last().map_or(now, |last| now.max(last.at));
        let appends = entry.batch.appends.into_iter().zip(entry.hashes);
        Ok(appends.map(|(append, hash)| self.store(append, hash, at)).collect())
    }

    /// The first receipts, where the same batch was stored before. Half of it, or another content, is an id used twice.
    fn repeat(&self, entry: &Entry) -> Result<Option<Vec<Receipt>>> {
        let appends = &entry.batch.appends;
        let mut ids = appends.iter().flat_map(|append| &append.events).map(|event| event.id);
        let Some(known) = ids.find(|id| self.ids.contains_key(id)) else {
            return Ok(None);
        };
        let receipt = |(append, hash): (&Append, &i64)| {
            let first = *self.ids.get(&append.events[0].id)?;
            (self.hashes.get(&first) == Some(hash)).then(|| self.receipt(first, append.events.len(), true))
        };
        let receipts: Option<Vec<_>> = appends.iter().zip(&entry.hashes).map(receipt).collect();
        receipts.map(Some).ok_or(Error::IdReused(known))
    }

    fn judge(&self, batch: &Batch) -> Result<()> {
        for append in &batch.appends {
            let actual = Version(
                self.streams
                    .get(&append.stream)
                    .map_or(0, |positions| positions.len() as i64),
            );
            if !append.expected.allows(actual) {
                return Err(Error::Conflict {
                    stream: append.stream.clone(),
                    expected: append.expected,
                    actual,
                });
            }
        }
        for guard in &batch.guards {
            let last = self
                .streams
                .get(&guard.stream)
                .and_then(|positions| positions.last().copied());
            if let Some(at) = last.filter(|at| *at > guard.after) {
                return Err(Error::Guarded {
                    stream: guard.stream.clone(),
                    at,
                });
            }
        }
        Ok(())
    }

    fn store(&mut self, append: Append, hash: i64, at: Timestamp) -> Receipt {
        let first = Position(self.events.len() as i64 + 1);
        self.hashes.insert(first, hash);
        let count = append.events.len();
        let positions = self.streams.entry(append.stream.clone()).or_default();
        for event in append.events {
            let position = Position(self.events.len() as i64 + 1);
            positions.push(position);
            self.ids.insert(event.id, position);
            let version = Version(positions.len() as i64);
            self.events
                .push(event.recorded(append.stream.clone(), position, version, at));
        }
        self.receipt(first, count, false)
    }

    fn receipt(&self, first: Position, count: usize, repeated: bool) -> Receipt {
        let last = Position(first.0 + count as i64 - 1);
        let version = self.at(last).map_or(Version(0), |event| event.version);
        Receipt {
            first,
            last,
            version,
            repeated,
        }
    }

    /// The events that a query may look at, in its order, with the number by which it counts: position or version.
    pub(super) fn walk<'a>(&'a self, query: &'a Query) -> Box<dyn Iterator<Item = (i64, &'a Recorded)> + 'a> {
        let all = &self.events[..];
        let one = query
            .stream
            .as_ref()
            .map(|stream| self.streams.get(stream).map_or(&[][..], Vec::as_slice));
        let count = one.map_or(all.len(), <[_]>::len);
        let event = move |n: usize| one.map_or_else(|| &all[n], |positions| &all[positions[n].0 as usize - 1]);
        let (low, high) = query.bounds();
        let low = usize::try_from(low - 1).unwrap_or(0).min(count);
        let high = usize::try_from(high).unwrap_or(0).clamp(low, count);
        let numbered = move |n: usize| (n as i64 + 1, event(n));
        if query.backward {
            Box::new((low..high).rev().map(numbered))
        } else {
            Box::new((low..high).map(numbered))
        }
    }
}

impl Expected {
    /// Whether a stream at this version is as expected.
    pub(crate) fn allows(self, actual: Version) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual.0 == 0,
            Self::Exists => actual.0 > 0,
            Self::Exact(version) => actual == version,
        }
    }
}

//! What lies in a log in memory, counted.

use std::{collections::BTreeMap, future::ready};

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use sagamill_bus::{Headers, Topic};

use super::{MemoryLog, ledger::Ledger};
use crate::{
    Position, Recorded, Result,
    backend::Query,
    census::{Census, Heap, Noted, Slip},
};

impl Census for MemoryLog {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<Heap>>> {
        ready(Ok(heaps(&self.state().ledger))).boxed()
    }
    fn slips<'a>(&'a self, after: Position, until: Position, mark: &'a str) -> BoxFuture<'a, Result<Vec<Slip>>> {
        let query = Query {
            after: Some(after.0),
            until: Some(until.0),
            ..Query::default()
        };
        let slips = self
            .state()
            .ledger
            .walk(&query)
            .filter_map(|(_, event)| slip(event, mark))
            .collect();
        ready(Ok(slips)).boxed()
    }
    fn noted<'a>(&'a self, name: &'a str, after: Position) -> BoxFuture<'a, Result<Noted>> {
        ready(Ok(self.state().drawer.noted(name, after))).boxed()
    }
}

fn heaps(ledger: &Ledger) -> Vec<Heap> {
    let mut heaps: BTreeMap<Topic, Heap> = BTreeMap::new();
    for (_, event) in ledger.walk(&Query::default()) {
        let Some(topic) = &event.topic else { continue };
        let heap = heaps.entry(topic.clone()).or_insert_with(|| Heap {
            topic: topic.clone(),
            events: 0,
            first: event.position,
            last: event.position,
        });
        heap.events += 1;
        heap.last = event.position;
    }
    heaps.into_values().collect()
}

fn slip(event: &Recorded, mark: &str) -> Option<Slip> {
    let is_marked = event
        .headers
        .iter()
        .any(|(name, value)| name.contains(mark) || value.contains(mark));
    Some(Slip {
        position: event.position,
        topic: event.topic.clone()?,
        place: event.key.as_deref().unwrap_or(event.stream.as_str()).to_owned(),
        headers: if is_marked {
            event.headers.clone()
        } else {
            Headers::new()
        },
    })
}

//! What the log tells of topics and groups: counted from its events, from checkpoints, and from what was written down.

use std::collections::{BTreeSet, HashSet};

use futures_core::future::BoxFuture;
use jiff::Timestamp;
use sagamill_bus::{Inspect, Lag, LagOf, Result, Topic, TopicInfo};
use uuid::Uuid;

use super::{
    SHARDS,
    audience::subscriber,
    envelope::{GROUP, addressee},
    fault,
};
use crate::{
    Checkpoint, EventStore, Position,
    census::{Heap, Noted, Slip},
    subscription::place,
};

/// Positions that are looked through at a time.
const WINDOW: i64 = 20_000;

/// Counts what lies in the log, and changes nothing.
pub(super) struct Inspector(pub(super) EventStore);

impl Inspector {
    async fn all(&self) -> crate::Result<Vec<TopicInfo>> {
        let heaps = self.0.backend().topics().await?;
        Ok(heaps.into_iter().map(info).collect())
    }
    /// The log is looked through once for all groups, from where the last of them is.
    async fn behind(&self, of: &LagOf) -> crate::Result<Vec<Lag>> {
        let backend = self.0.backend();
        let mut groups = Behind::all(backend.checkpoints().await?, of, backend.now());
        for group in &mut groups {
            group.noted = backend.noted(&group.name, group.first()).await?.into();
        }
        let head = backend.head().await?.position;
        let mut after = groups.iter().map(Behind::first).min().unwrap_or(head);
        while after < head {
            let until = head.min(Position(after.0.saturating_add(WINDOW)));
            for slip in backend.slips(after, until, GROUP).await? {
                groups.iter_mut().for_each(|group| group.count(&slip));
            }
            after = until;
        }
        let mut lags: Vec<Lag> = groups.into_iter().map(Behind::lag).collect();
        lags.sort_by(|a, b| (&a.topic, &a.group).cmp(&(&b.topic, &b.group)));
        Ok(lags)
    }
}

fn info(heap: Heap) -> TopicInfo {
    let mut info = TopicInfo::new(heap.topic);
    info.messages = Some(heap.events);
    info.first = u64::try_from(heap.first.0).ok();
    info.last = u64::try_from(heap.last.0).ok();
    info
}

/// A group's subscription, while it is counted.
#[derive(Debug)]
struct Behind {
    /// In the log.
    name: String,
    topic: Topic,
    group: String,
    /// The checkpoint of each shard.
    shards: Vec<Position>,
    /// Who holds some of them now.
    owners: BTreeSet<Uuid>,
    noted: Known,
    /// Events after the checkpoints of which nothing is written down.
    more: u64,
}

/// What is written down of messages, before and after the checkpoint.
#[derive(Debug, Default)]
struct Known {
    begun: HashSet<(u16, Position)>,
    buried: HashSet<(u16, Position)>,
}

impl From<Noted> for Known {
    fn from(Noted { begun, buried }: Noted) -> Self {
        Self {
            begun: begun.into_iter().collect(),
            buried: buried.into_iter().collect(),
        }
    }
}

impl Behind {
    /// Checkpoints come by name, then by shard.
    fn all(checkpoints: Vec<Checkpoint>, of: &LagOf, now: Timestamp) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for Checkpoint { name, at, owner, .. } in checkpoints {
            if all.last().is_none_or(|last| last.name != name) {
                let Some((topic, group)) = subscriber(&name).filter(|(topic, group)| of.takes(topic, group)) else {
                    continue;
                };
                all.push(Self {
                    name,
                    topic,
                    group,
                    shards: Vec::with_capacity(usize::from(SHARDS)),
                    owners: BTreeSet::new(),
                    noted: Known::default(),
                    more: 0,
                });
            }
            if let Some(last) = all.last_mut() {
                last.shards.push(at.position);
                last.owners
                    .extend(owner.filter(|(_, until)| *until > now).map(|(owner, _)| owner));
            }
        }
        all
    }
    /// Where its last shard is.
    fn first(&self) -> Position {
        self.shards.iter().copied().min().unwrap_or_default()
    }
    fn count(&mut self, slip: &Slip) {
        let shard = place(&slip.place, SHARDS);
        let is_passed = self
            .shards
            .get(usize::from(shard))
            .is_none_or(|checkpoint| slip.position <= *checkpoint);
        if is_passed || !self.topic.covers(&slip.topic) {
            return;
        }
        let at = (shard, slip.position);
        let is_known = self.noted.begun.contains(&at) || self.noted.buried.contains(&at);
        if !is_known && addressee(&slip.headers).is_none_or(|group| group == self.group) {
            self.more += 1;
        }
    }
    fn lag(self) -> Lag {
        let mut lag = Lag::new(self.topic, self.group);
        lag.unsettled = Some(self.noted.begun.len() as u64 + self.more);
        lag.members = Some(self.owners.len() as u64);
        lag
    }
}

impl Inspect for Inspector {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicInfo>>> {
        Box::pin(async move { self.all().await.map_err(|error| fault(&error)) })
    }
    fn lag<'a>(&'a self, of: &'a LagOf) -> BoxFuture<'a, Result<Vec<Lag>>> {
        Box::pin(async move { self.behind(of).await.map_err(|error| fault(&error)) })
    }
}

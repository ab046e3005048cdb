//! What waits to be published, in lanes: one for each key, so that a key that is held up holds up no other.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use tokio::time::Instant;

use super::envelope::key;
use crate::{Lease, Position, Recorded, subscription::Pauses};

/// A lane, and under which ownership of its shard it was meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneId {
    pub(super) shard: u16,
    fence: i64,
    key: String,
}

/// The events of one key, the next to be published first.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) events: VecDeque<Recorded>,
    pub(super) pauses: Pauses,
}

/// The lanes of one shard.
#[derive(Debug)]
struct Shard {
    fence: i64,
    lanes: BTreeMap<String, Lane>,
}

/// All lanes of the shards that this process holds. Each is in one state: it is ready, it waits for a time, or it is out
/// with the transport.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    shards: BTreeMap<u16, Shard>,
    ready: VecDeque<LaneId>,
    waiting: BTreeMap<(Instant, u64), LaneId>,
    /// Tells those apart that wait for the same time, in the order in which they came.
    waits: u64,
    /// When each event was recorded that waits to be published.
    open: BTreeMap<Position, Timestamp>,
}

impl Lanes {
    /// A shard is this process's: what was known of it is void.
    pub(super) fn gain(&mut self, lease: &Lease) {
        self.lose(lease.shard);
        self.shards.insert(
            lease.shard,
            Shard {
                fence: lease.fence,
                lanes: BTreeMap::new(),
            },
        );
    }
    /// A shard is another's: nothing of it is published any more.
    pub(super) fn lose(&mut self, shard: u16) {
        let lost = self
            .shards
            .remove(&shard)
            .into_iter()
            .flat_map(|shard| shard.lanes.into_values());
        for event in lost.flat_map(|lane| lane.events) {
            self.open.remove(&event.position);
        }
        self.ready.retain(|id| id.shard != shard);
        self.waiting.retain(|_, id| id.shard != shard);
    }
    /// Queues an event behind those of its key.
    pub(super) fn push(&mut self, shard: u16, event: Recorded) {
        let Some(of) = self.shards.get_mut(&shard) else { return };
        self.open.insert(event.position, event.at);
        if let Some(lane) = of.lanes.get_mut(key(&event)) {
            return lane.events.push_back(event);
        }
        let key = key(&event).to_owned();
        self.ready.push_back(LaneId {
            shard,
            fence: of.fence,
            key: key.clone(),
        });
        of.lanes.insert(
            key,
            Lane {
                events: VecDeque::from([event]),
                ..Lane::default()
            },
        );
    }
    /// The next lane that may publish.
    pub(super) fn next(&mut self) -> Option<LaneId> {
        self.ready.pop_front()
    }
    /// A lane, unless its shard was lost since.
    pub(super) fn lane(&mut self, id: &LaneId) -> Option<&mut Lane> {
        self.shards
            .get_mut(&id.shard)
            .filter(|shard| shard.fence == id.fence)?
            .lanes
            .get_mut(&id.key)
    }
    /// The first event of a lane is published.
    pub(super) fn pop(&mut self, id: &LaneId) -> Option<Position> {
        let event = self.lane(id)?.events.pop_front()?;
        self.open.remove(&event.position);
        Some(event.position)
    }
    /// A lane goes on with its next event; without one it ends.
    pub(super) fn resume(&mut self, id: LaneId) {
        let Some(lane) = self.lane(&id) else { return };
        if !lane.events.is_empty() {
            self.ready.push_back(id);
        } else if let Some(shard) = self.shards.get_mut(&id.shard) {
            shard.lanes.remove(&id.key);
        }
    }
    /// A lane pauses.
    pub(super) fn wait(&mut self, id: LaneId, until: Instant) {
        if self.lane(&id).is_some() {
            self.waits += 1;
            self.waiting.insert((until, self.waits), id);
        }
    }
    /// When the first of the lanes that pause goes on.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|(until, _)| *until)
    }
    /// Lanes whose pause is over go on.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= now) {
            let id = first.remove();
            self.ready.push_back(id);
        }
    }
    /// When the oldest event was recorded that waits to be published.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.open.values().next().copied()
    }
}

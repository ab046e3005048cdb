//! What a group in this process knows of the messages of its shards: each is in one stage, and under order of keys at most
//! one of a key is out of its lane. No lock, no clock and no database in here.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use foldhash::fast::FixedState;
use jiff::Timestamp;
use sagamill_bus::{Order, Trials};
use uuid::Uuid;

use super::entry::{Content, Entry, Row, Stage};
use crate::{Anchor, Lease, Position, backlog};

/// Most messages that are written down; beyond it only those are tried, and no new ones.
pub(crate) const WRITTEN_MAX: usize = 10_000;
/// So many messages of a shard wait behind others of their keys before they are written down, so that reading goes on.
const BEHIND_MAX: usize = 256;

/// One message under one ownership of its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) shard: u16,
    fence: i64,
    pub(super) position: Position,
}

#[derive(Debug)]
struct Shard {
    lease: Lease,
    /// What was appended up to here may have been begun by an owner that did not end well.
    doubt: Position,
    /// The last message that ended here.
    high: Position,
    entries: BTreeMap<Position, Entry>,
    /// The messages of each active key, the one that holds it first. A map: strangers never share a lane.
    lanes: HashMap<String, VecDeque<Position>, FixedState>,
    /// What was given up after the checkpoint.
    buried: BTreeMap<Position, Option<Uuid>>,
    /// How many came behind others since such were last written down.
    behind: usize,
}

/// What became of an event that came from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    New(Id),
    /// It was written down, or given up, before.
    Known,
    /// As `New`; what was written down at its position was of an event that the log has lost.
    Replaced(Id),
    /// The shard is not this process's.
    Stranger,
}

/// Queues name messages that may have gone on since: they are looked at when they are taken.
#[derive(Debug)]
pub(super) struct Book {
    order: Order,
    shards: BTreeMap<u16, Shard>,
    pub(super) ready: VecDeque<Id>,
    /// The messages in doubt.
    pub(super) trials: Trials<Id>,
    unread: VecDeque<Id>,
    waiting: BTreeSet<(Timestamp, Id)>,
    /// How many are written down.
    written: usize,
    /// Something has become ready since it was last asked.
    news: bool,
}

impl Book {
    pub(super) fn new(order: Order, attempts_max: Option<u32>) -> Self {
        Self {
            order,
            shards: BTreeMap::new(),
            ready: VecDeque::new(),
            trials: Trials::new(attempts_max),
            unread: VecDeque::new(),
            waiting: BTreeSet::new(),
            written: 0,
            news: false,
        }
    }
    pub(super) fn written(&self) -> usize {
        self.written
    }
    /// Whether no new message may be begun, for the number of those that are begun.
    pub(super) fn is_full(&self) -> bool {
        self.written >= WRITTEN_MAX
    }
    fn erased(&mut self, count: usize) {
        let was_full = self.is_full();
        self.written -= count;
        self.news |= was_full && !self.is_full();
    }
    /// Whether something has become ready; asking takes note of it.
    pub(super) fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// A shard is this process's.
    pub(super) fn gain(&mut self, lease: Lease, doubt: Position) {
        self.lose(lease.shard);
        let shard = Shard {
            doubt,
            high: Position(0),
            entries: BTreeMap::new(),
            lanes: HashMap::default(),
            buried: BTreeMap::new(),
            behind: 0,
            lease,
        };
        self.shards.insert(shard.lease.shard, shard);
    }
    /// What earlier owners have written down of a shard.
    pub(super) fn recall(&mut self, number: u16, begun: backlog::Begun, now: Timestamp) {
        let Some(shard) = self.shards.get_mut(&number) else {
            return;
        };
        shard.buried = begun.buried.iter().map(|at| (at.position, at.event)).collect();
        for open in begun.open {
            let entry = Entry {
                at: open.at,
                key: open.key,
                content: None,
                attempts: open.attempts,
                counted: false,
                due: open.due,
                row: Row::Written,
                stage: Stage::Behind,
            };
            self.written += 1;
            self.insert(number, entry, now);
        }
    }
    /// A shard is another's; gives what was known of its messages.
    pub(super) fn lose(&mut self, shard: u16) -> Vec<Entry> {
        let Some(lost) = self.shards.remove(&shard) else {
            return Vec::new();
        };
        let others = |id: &Id| id.shard != shard;
        self.ready.retain(others);
        self.trials.retain(others);
        self.unread.retain(others);
        self.waiting.retain(|(_, id)| id.shard != shard);
        let entries: Vec<Entry> = lost.entries.into_values().collect();
        self.erased(entries.iter().filter(|entry| entry.row == Row::Written).count());
        entries
    }
    pub(super) fn lease(&self, shard: u16) -> Option<&Lease> {
        self.shards.get(&shard).map(|shard| &shard.lease)
    }

    /// A message comes from the log.
    pub(super) fn take(&mut self, number: u16, at: Anchor, content: Content, now: Timestamp) -> Taken {
        let Some(shard) = self.shards.get(&number) else {
            return Taken::Stranger;
        };
        if shard.buried.get(&at.position).is_some_and(|event| *event == at.event) {
            return Taken::Known;
        }
        let id = shard.id(at.position);
        let known = shard.entries.get(&at.position).map(|entry| entry.at);
        if known == Some(at) {
            return Taken::Known;
        }
        if known.is_some() {
            self.finish(id, now);
        }
        let key = content.message.key.as_ref().map(|key| key.0.clone().into_owned());
        let entry = Entry {
            at,
            key,
            content: Some(content),
            attempts: 0,
            counted: false,
            due: Timestamp::MIN,
            row: Row::None,
            stage: Stage::Behind,
        };
        self.insert(number, entry, now);
        if known.is_some() {
            Taken::Replaced(id)
        } else {
            Taken::New(id)
        }
    }
    fn insert(&mut self, number: u16, entry: Entry, now: Timestamp) {
        let Some(shard) = self.shards.get_mut(&number) else {
            return;
        };
        let position = entry.at.position;
        let key = entry.key.clone().filter(|_| self.order == Order::Key);
        shard.entries.insert(position, entry);
        let id = shard.id(position);
        if let Some(key) = key {
            let lane = shard.lanes.entry(key).or_default();
            lane.push_back(position);
            if lane.len() > 1 {
                shard.behind += 1;
                return;
            }
        }
        self.offer(id, now);
    }

    pub(super) fn entry(&mut self, id: Id) -> Option<&mut Entry> {
        let shard = self.shards.get_mut(&id.shard)?;
        shard
            .entries
            .get_mut(&id.position)
            .filter(|_| shard.lease.fence == id.fence)
    }
    /// A message, if it is with this delivery still.
    pub(super) fn flying(&mut self, id: Id, delivery: u64) -> Option<(u64, &mut Entry)> {
        let entry = self.entry(id)?;
        match entry.stage {
            Stage::Flying { member, delivery: of } if of == delivery => Some((member, entry)),
            _ => None,
        }
    }
    /// What a member has out, by shard and position.
    pub(super) fn out_with(&self, member: u64) -> Vec<Id> {
        let mut out = Vec::new();
        for shard in self.shards.values() {
            let of = shard
                .entries
                .iter()
                .filter(|(_, entry)| matches!(entry.stage, Stage::Flying { member: of, .. } if of == member));
            out.extend(of.map(|(position, _)| shard.id(*position)));
        }
        out
    }

    /// The group is done with a message: its key moves on.
    pub(super) fn finish(&mut self, id: Id, now: Timestamp) -> Option<Entry> {
        let shard = self
            .shards
            .get_mut(&id.shard)
            .filter(|shard| shard.lease.fence == id.fence)?;
        let entry = shard.entries.remove(&id.position)?;
        shard.high = shard.high.max(id.position);
        let key = entry.key.as_ref().filter(|_| self.order == Order::Key);
        let next = key.and_then(|key| shard.leave_lane(key, id));
        self.waiting.remove(&(entry.due, id));
        self.trials.forget(id);
        self.erased(usize::from(entry.row == Row::Written));
        if let Some(next) = next {
            self.offer(next, now);
        }
        Some(entry)
    }
    /// Moves a message on that holds its key or needs none: to whatever it waits for.
    pub(super) fn offer(&mut self, id: Id, now: Timestamp) {
        if let Some(queue) = self.place(id, now) {
            queue.push_back(id);
        }
    }
    /// The same, before all others.
    pub(super) fn offer_first(&mut self, id: Id, now: Timestamp) {
        if let Some(queue) = self.place(id, now) {
            queue.push_front(id);
        }
    }
    /// Gives a message its stage, and the queue that goes with it.
    fn place(&mut self, id: Id, now: Timestamp) -> Option<&mut VecDeque<Id>> {
        let shard = self
            .shards
            .get_mut(&id.shard)
            .filter(|shard| shard.lease.fence == id.fence)?;
        let doubt = shard.doubt;
        let entry = shard.entries.get_mut(&id.position)?;
        let (stage, queue) = if entry.due > now {
            entry.forget_content();
            entry.stage = Stage::Waiting;
            self.waiting.insert((entry.due, id));
            return None;
        } else if id.position <= doubt && !entry.counted {
            entry.stage = Stage::Doubtful;
            self.trials.doubt(id, entry.attempts);
            return None;
        } else if entry.content.is_none() {
            (Stage::Unread, &mut self.unread)
        } else {
            self.news = true;
            (Stage::Ready, &mut self.ready)
        };
        entry.stage = stage;
        Some(queue)
    }

    /// When the first of those that wait is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(due, _)| *due)
    }
    /// Those that are due go on.
    pub(super) fn promote(&mut self, now: Timestamp) {
        while let Some((due, id)) = self.waiting.first().copied().filter(|(due, _)| *due <= now) {
            self.waiting.remove(&(due, id));
            self.offer(id, now);
        }
    }
    /// The next whose content is to be read, and where it lies.
    pub(super) fn next_unread(&mut self) -> Option<(Id, Anchor)> {
        loop {
            let id = self.unread.pop_front()?;
            if let Some(entry) = self.entry(id).filter(|entry| entry.stage == Stage::Unread) {
                return Some((id, entry.at));
            }
        }
    }
    /// How many of those that are written down are ready.
    pub(super) fn written_and_ready(&mut self) -> usize {
        let ready = std::mem::take(&mut self.ready);
        let written = |id: &&Id| self.entry(**id).is_some_and(|entry| entry.row == Row::Written);
        let count = ready.iter().filter(written).count();
        self.ready = ready;
        count
    }
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// A message is written down. Behind others its content is not needed for long.
    pub(super) fn wrote(&mut self, id: Id) -> bool {
        let Some(entry) = self.entry(id) else { return false };
        let new = entry.row != Row::Written;
        entry.row = Row::Written;
        if entry.stage == Stage::Behind {
            entry.forget_content();
        }
        self.written += usize::from(new);
        new
    }
    /// Messages of a shard before a position that hold its checkpoint up, and are not about to be written down.
    pub(super) fn unwritten_before(&self, number: u16, position: Position) -> Vec<Id> {
        let Some(shard) = self.shards.get(&number) else {
            return Vec::new();
        };
        let before = shard.entries.range(..position);
        let unwritten = before.filter(|(_, entry)| entry.row == Row::None && !entry.is_settling());
        unwritten.map(|(position, _)| shard.id(*position)).collect()
    }
    /// Of a shard, those before the last message that ended.
    pub(super) fn overtaken(&self, number: u16) -> Vec<Id> {
        let high = self.shards.get(&number).map(|shard| shard.high);
        high.map_or_else(Vec::new, |high| self.unwritten_before(number, high))
    }
    pub(super) fn shards(&self) -> Vec<u16> {
        self.shards.keys().copied().collect()
    }
    /// Messages that wait behind others in a shard where there are many of them, and hold up its reading.
    pub(super) fn crowded(&mut self) -> Vec<Id> {
        let full = self.is_full();
        let crowd = |shard: &&mut Shard| shard.behind >= BEHIND_MAX && !full;
        let mut crowded = Vec::new();
        for shard in self.shards.values_mut().filter(crowd) {
            let waits = |entry: &Entry| entry.row == Row::None && entry.stage == Stage::Behind;
            let behind = shard.entries.iter().filter(|(_, entry)| waits(entry));
            let behind: Vec<Id> = behind.map(|(position, _)| shard.id(*position)).collect();
            // Most of those that were counted may have gone on meanwhile.
            if behind.len() < BEHIND_MAX {
                shard.behind = behind.len();
            } else {
                shard.behind = 0;
                crowded.extend(behind);
            }
        }
        crowded
    }
    /// Whether nothing of a shard is with a member, or being written.
    pub(super) fn is_at_rest(&self, number: u16) -> bool {
        self.shards
            .get(&number)
            .is_none_or(|shard| !shard.entries.values().any(Entry::is_busy))
    }
    /// Messages of a shard that were counted and are not with a member.
    pub(super) fn counted(&self, number: u16) -> Vec<Id> {
        let shard = self.shards.get(&number);
        let entries = shard
            .into_iter()
            .flat_map(|shard| shard.entries.iter().map(|(at, entry)| (shard.id(*at), entry)));
        entries
            .filter(|(_, entry)| entry.counted && matches!(entry.stage, Stage::Ready | Stage::Unread))
            .map(|(id, _)| id)
            .collect()
    }
}

impl Shard {
    fn id(&self, position: Position) -> Id {
        Id {
            shard: self.lease.shard,
            fence: self.lease.fence,
            position,
        }
    }
    /// Takes a message out of its lane; gives the next where it held the key.
    fn leave_lane(&mut self, key: &str, id: Id) -> Option<Id> {
        let lane = self.lanes.get_mut(key)?;
        let held = lane.front() == Some(&id.position);
        if held {
            lane.pop_front();
        } else {
            lane.retain(|position| *position != id.position);
        }
        let next = lane.front().copied();
        if next.is_none() {
            self.lanes.remove(key);
        }
        next.filter(|_| held).map(|position| self.id(position))
    }
}

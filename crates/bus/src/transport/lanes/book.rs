//! What a subscription in this process knows of its messages. No lock, no clock and no broker in here.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use foldhash::fast::FixedState;
use tokio::time::Instant;

use super::entry::{Arrival, Entry, Note, Stage};
use crate::{Key, Order, Trials};

/// Most messages that are held: a crowd behind one key must not grow without end.
pub(super) const HELD_MAX: usize = 1_024;

/// Something to be done with the broker before a message can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chore {
    /// Reads what others noted of it.
    Recall,
    /// Notes how often it was tried.
    Note(Note),
    /// Notes an attempt before it is made.
    Count(Note),
}

/// Under order of keys at most one message of a key is out of its lane. Queues name messages that may have gone on since:
/// they are looked at when they are taken.
#[derive(Debug)]
pub(super) struct Book<I, T> {
    order: Order,
    entries: BTreeMap<I, Entry<T>>,
    /// The messages of each active key. A map, not a fixed array: strangers never share a lane.
    lanes: HashMap<Key, Lane<I>, FixedState>,
    ready: VecDeque<I>,
    chores: VecDeque<I>,
    /// The messages in doubt.
    pub(super) trials: Trials<I>,
    waiting: BTreeSet<(Instant, I)>,
    behind: usize,
    /// Something has become ready since it was last asked.
    news: bool,
}

#[derive(Debug)]
struct Lane<I> {
    holder: I,
    behind: BTreeSet<I>,
}

impl<I: Copy + Ord, T: Clone> Book<I, T> {
    pub(super) fn new(order: Order, attempts_max: Option<u32>) -> Self {
        Self {
            order,
            entries: BTreeMap::new(),
            lanes: HashMap::default(),
            ready: VecDeque::new(),
            chores: VecDeque::new(),
            trials: Trials::new(attempts_max),
            waiting: BTreeSet::new(),
            behind: 0,
            news: false,
        }
    }
    /// Whether something has become ready; asking takes note of it.
    pub(super) fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }
    /// How many more messages may be asked for, where so many may be busy.
    pub(super) fn room(&self, busy_max: usize) -> usize {
        let held = self.entries.len();
        let busy = held - self.behind - self.waiting.len();
        busy_max
            .saturating_sub(busy)
            .min(HELD_MAX.max(busy_max).saturating_sub(held))
    }

    /// A message comes from the broker. One that is held already is settled by its new token from now on.
    pub(super) fn take(&mut self, arrival: Arrival<I, T>, now: Instant) {
        let id = arrival.id;
        if let Some(held) = self.entries.get_mut(&id) {
            (held.token, held.delivered) = (arrival.token, arrival.delivered);
            held.lost = false;
            return;
        }
        let entry = Entry::new(arrival);
        let lane = entry.key().filter(|_| self.order == Order::Key).cloned();
        self.entries.insert(id, entry);
        if lane.is_none_or(|key| self.enter_lane(key, id)) {
            self.offer(id, now);
        }
    }
    /// Answers whether the message holds its key now. What is given back does not always come in its order: an earlier
    /// message takes the place of a later one that nobody has begun.
    fn enter_lane(&mut self, key: Key, id: I) -> bool {
        let Some(lane) = self.lanes.get_mut(&key) else {
            let behind = BTreeSet::new();
            self.lanes.insert(key, Lane { holder: id, behind });
            return true;
        };
        self.behind += 1;
        let later = lane.holder;
        let holder = self.entries.get_mut(&later);
        let Some(holder) = holder.filter(|holder| id < later && !holder.is_begun()) else {
            lane.behind.insert(id);
            return false;
        };
        holder.stage = Stage::Behind;
        self.trials.forget(later);
        lane.behind.insert(later);
        lane.holder = id;
        true
    }
    pub(super) fn entry(&mut self, id: I) -> Option<&mut Entry<T>> {
        self.entries.get_mut(&id)
    }
    /// Whether a message holds its key, so that its retry keeps order.
    pub(super) fn holds_key(&self, id: I) -> bool {
        self.order == Order::Key && self.entries.get(&id).is_some_and(|entry| entry.key().is_some())
    }
    /// How many messages are held.
    #[cfg(feature = "amqp")]
    pub(super) fn held(&self) -> usize {
        self.entries.len()
    }
    /// What the broker must be kept from giving to others.
    #[cfg(any(test, feature = "nats"))]
    pub(super) fn tokens(&self) -> Vec<T> {
        self.entries.values().map(|entry| entry.token.clone()).collect()
    }
    /// What a member has out, oldest first.
    pub(super) fn out_with(&self, member: u64) -> Vec<I> {
        let out = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.stage, Stage::Flying { member: of, .. } if of == member));
        out.map(|(id, _)| *id).collect()
    }
    /// Whether the broker is being told of some.
    pub(super) fn is_settling(&self) -> bool {
        let mut entries = self.entries.values();
        entries.any(|entry| matches!(entry.stage, Stage::Settling { .. }))
    }

    /// The group is done with a message here: its key moves on.
    pub(super) fn finish(&mut self, id: I, now: Instant) -> Option<Entry<T>> {
        let entry = self.entries.remove(&id)?;
        self.unqueue(id, &entry);
        if self.order == Order::Key
            && let Some(key) = entry.key()
        {
            self.leave_lane(key, id, now);
        }
        Some(entry)
    }
    fn unqueue(&mut self, id: I, entry: &Entry<T>) {
        self.trials.forget(id);
        if let Some(due) = entry.due {
            self.waiting.remove(&(due, id));
        }
    }
    fn leave_lane(&mut self, key: &Key, id: I, now: Instant) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        if lane.behind.remove(&id) {
            self.behind -= 1;
            return;
        }
        match lane.behind.pop_first() {
            Some(next) => {
                lane.holder = next;
                self.behind -= 1;
                self.offer(next, now);
            }
            None => {
                self.lanes.remove(key);
            }
        }
    }
    /// Those that may be taken out, oldest first: none that the broker is being told of, and none with a member unless said so.
    /// And whether there are no others.
    #[cfg(feature = "kafka")]
    pub(super) fn withdrawable(&self, of: impl Fn(&I) -> bool, out_too: bool) -> (Vec<I>, bool) {
        let (mut ids, mut is_clear) = (Vec::new(), true);
        for (id, entry) in self.entries.iter().filter(|(id, _)| of(id)) {
            match entry.stage {
                Stage::Settling { .. } => is_clear = false,
                Stage::Flying { .. } if !out_too => is_clear = false,
                _ => ids.push(*id),
            }
        }
        (ids, is_clear)
    }
    /// Takes out all that the broker is not being told of, oldest first.
    pub(super) fn empty(&mut self) -> Vec<(I, Entry<T>)> {
        let settling = |_: &I, entry: &mut Entry<T>| !matches!(entry.stage, Stage::Settling { .. });
        let out: Vec<_> = self.entries.extract_if(.., settling).collect();
        (self.ready, self.chores) = (VecDeque::new(), VecDeque::new());
        self.waiting.clear();
        self.trials.retain(|_| false);
        (self.lanes, self.behind) = (HashMap::default(), 0);
        out
    }

    /// The broker has taken back all that it delivered: what nobody is busy with is forgotten, and comes again. Gives the
    /// others, which may be renewed by another delivery; until then they are offered to nobody.
    #[cfg(feature = "amqp")]
    pub(super) fn lose(&mut self) -> Vec<I> {
        let is_busy = |entry: &Entry<T>| matches!(entry.stage, Stage::Flying { .. } | Stage::Settling { .. });
        self.entries.retain(|_, entry| is_busy(entry));
        (self.ready, self.chores) = (VecDeque::new(), VecDeque::new());
        self.waiting.clear();
        self.trials.retain(|id| self.entries.contains_key(id));
        (self.lanes, self.behind) = (HashMap::default(), 0);
        for (id, entry) in &mut self.entries {
            entry.lost = true;
            if let Some(key) = entry.message.key.as_ref().filter(|_| self.order == Order::Key) {
                let (holder, behind) = (*id, BTreeSet::new());
                self.lanes.insert(key.clone(), Lane { holder, behind });
            }
        }
        self.entries.keys().copied().collect()
    }
    fn is_lost(&self, id: I) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.lost)
    }

    /// Moves a message on that holds its key or needs none: to whatever it waits for. One that is lost is nobody's here.
    pub(super) fn offer(&mut self, id: I, now: Instant) {
        if self.is_lost(id) {
            self.finish(id, now);
            return;
        }
        if self.place(id, now) == Some(Stage::Ready) {
            self.ready.push_back(id);
        }
    }
    /// The same, before all others.
    pub(super) fn offer_first(&mut self, id: I, now: Instant) {
        if self.is_lost(id) {
            self.finish(id, now);
            return;
        }
        if self.place(id, now) == Some(Stage::Ready) {
            self.ready.push_front(id);
        }
    }
    fn place(&mut self, id: I, now: Instant) -> Option<Stage> {
        let entry = self.entries.get_mut(&id)?;
        entry.due = entry.due.filter(|due| *due > now);
        entry.stage = match entry.due {
            _ if entry.unread || entry.unnoted => {
                self.chores.push_back(id);
                Stage::Chore
            }
            Some(due) => {
                self.waiting.insert((due, id));
                Stage::Waiting
            }
            None if entry.doubt && !entry.counted => {
                self.trials.doubt(id, entry.attempts);
                Stage::Doubtful
            }
            None => {
                self.news = true;
                Stage::Ready
            }
        };
        Some(entry.stage)
    }
    /// When the first of those that wait is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(due, _)| *due)
    }
    /// Those that are due go on.
    pub(super) fn promote(&mut self, now: Instant) {
        while let Some((due, id)) = self.waiting.first().copied().filter(|(due, _)| *due <= now) {
            self.waiting.remove(&(due, id));
            self.offer(id, now);
        }
    }
    /// The next message that may go out.
    pub(super) fn next_ready(&mut self) -> Option<I> {
        loop {
            let id = self.ready.pop_front()?;
            if self.stage(id) == Some(Stage::Ready) {
                return Some(id);
            }
        }
    }
    /// The next thing to be done with the broker.
    pub(super) fn next_chore(&mut self) -> Option<(I, Chore)> {
        while let Some(id) = self.chores.pop_front() {
            let Some(entry) = self.entries.get(&id).filter(|entry| entry.stage == Stage::Chore) else {
                continue;
            };
            let chore = if entry.unread {
                Chore::Recall
            } else {
                Chore::Note(entry.open_note())
            };
            return Some((id, chore));
        }
        None
    }
    /// The next attempt that is to be counted.
    pub(super) fn next_trial(&mut self) -> Option<(I, Chore)> {
        let id = self.trials.begin(|_| true)?;
        let entry = self.entries.get_mut(&id)?;
        entry.stage = Stage::Chore;
        let counted = Note {
            attempts: entry.attempts.saturating_add(1),
            closed: entry.delivered.saturating_sub(1),
        };
        Some((id, Chore::Count(counted)))
    }
    fn stage(&self, id: I) -> Option<Stage> {
        self.entries.get(&id).map(|entry| entry.stage)
    }
}

//! What waits for one group: deliverable, behind its key, or for its time. No locks and no clock in here.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use foldhash::fast::FixedState;
use tokio::time::Instant;

use super::confirm::Confirm;
use crate::{Key, Message, Order, Topic, dead_letter::Death};

/// One message on its way to one group.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) message: Arc<Message>,
    pub(super) topic: Topic,
    /// Its place in what the group got, over all topics.
    pub(super) sequence: u64,
    /// Deliveries that counted.
    pub(super) attempts: u32,
    /// It stands at the head of its key's lane, wherever it is now.
    pub(super) holds_key: bool,
    /// The member that had it last and did not settle it for good: another one that waits goes first.
    pub(super) had_by: Option<usize>,
    /// A duplicate made by a fault: holds no key, confirms nothing, is not retried.
    pub(super) copy: bool,
    pub(super) confirm: Option<Arc<Confirm>>,
    pub(super) history: Vec<Death>,
}

impl Entry {
    /// A message that comes to a group for the first time, or as a new generation.
    pub(super) fn new(message: Arc<Message>, topic: &Topic, sequence: u64) -> Self {
        let topic = topic.clone();
        Self {
            message,
            topic,
            sequence,
            attempts: 0,
            holds_key: false,
            had_by: None,
            copy: false,
            confirm: None,
            history: Vec::new(),
        }
    }
    pub(super) fn duplicate(&self) -> Self {
        Self {
            copy: true,
            ..Self::new(Arc::clone(&self.message), &self.topic, self.sequence)
        }
    }
}

/// In order of the key, at most one message of each key is outside `lanes`: deliverable, delayed or in flight.
#[derive(Debug, Default)]
pub(super) struct Queue {
    order: Order,
    ready: VecDeque<Entry>,
    /// What waits behind the head of each active key. A map, not a fixed array: strangers never share a lane.
    lanes: HashMap<Key, VecDeque<Entry>, FixedState>,
    delayed: BTreeMap<(Instant, u64), Entry>,
    delays: u64,
}

impl Queue {
    pub(super) fn order(&self) -> Order {
        self.order
    }
    /// Arranges all that waits anew. Nothing may be in flight.
    pub(super) fn set_order(&mut self, order: Order) {
        let waiting = std::mem::take(self);
        let mut entries: Vec<Entry> = waiting.ready.into_iter().chain(waiting.delayed.into_values()).collect();
        entries.extend(waiting.lanes.into_values().flatten());
        entries.sort_by_key(|entry| entry.sequence);
        self.order = order;
        for mut entry in entries {
            entry.holds_key = false;
            if let Some(head) = self.admit(entry) {
                self.ready.push_back(head);
            }
        }
    }
    /// Takes in a new message; gives it back where it may be delivered, with its key held.
    pub(super) fn admit(&mut self, mut entry: Entry) -> Option<Entry> {
        let Some(key) = entry
            .message
            .key
            .as_ref()
            .filter(|_| self.order == Order::Key && !entry.copy)
        else {
            return Some(entry);
        };
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.push_back(entry);
            return None;
        }
        self.lanes.insert(key.clone(), VecDeque::new());
        entry.holds_key = true;
        Some(entry)
    }
    /// The head of a lane is settled: gives the next, which now holds the key.
    pub(super) fn release(&mut self, settled: &Entry) -> Option<Entry> {
        let key = settled.message.key.as_ref().filter(|_| settled.holds_key)?;
        match self.lanes.get_mut(key)?.pop_front() {
            Some(mut next) => {
                next.holds_key = true;
                Some(next)
            }
            None => {
                self.lanes.remove(key);
                None
            }
        }
    }
    pub(super) fn push_back(&mut self, entry: Entry) {
        self.ready.push_back(entry);
    }
    pub(super) fn push_front(&mut self, entry: Entry) {
        self.ready.push_front(entry);
    }
    pub(super) fn delay(&mut self, entry: Entry, due: Instant) {
        self.delays += 1;
        self.delayed.insert((due, self.delays), entry);
    }
    /// How many could be delivered now.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }
    /// Whether the next to be delivered was this member's already. Says so once: after that whoever comes gets it.
    pub(super) fn was_had_by(&mut self, member: usize) -> bool {
        let next = self.ready.front_mut().filter(|entry| entry.had_by == Some(member));
        next.is_some_and(|entry| entry.had_by.take().is_some())
    }
    pub(super) fn take(&mut self, index: usize) -> Option<Entry> {
        if index == 0 {
            self.ready.pop_front()
        } else {
            self.ready.remove(index)
        }
    }
    pub(super) fn has_delayed(&self) -> bool {
        !self.delayed.is_empty()
    }
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((due, _), _)| *due)
    }
    /// Makes deliverable what is due.
    pub(super) fn promote(&mut self, now: Instant) {
        while let Some(first) = self.delayed.first_entry() {
            if first.key().0 > now {
                break;
            }
            self.ready.push_back(first.remove());
        }
    }
}

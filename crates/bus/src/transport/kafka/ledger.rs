//! The partitions that this process has of one subscription, and what of them is settled. No lock, no clock, no broker in here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{mark::Mark, note::Carried};
use crate::transport::lanes::Note;

/// So far ahead the brokers are told that messages may have been begun, in messages: a note for each would cost more than it.
const AHEAD: i64 = 512;
/// A partition is not read further while this much of it waits here.
const WAITING_MAX: usize = 1_024;
const WAITING_BYTES_MAX: usize = 8 << 20;

/// A message, by one of this process's turns with its partition, and by its offset there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) turn: u64,
    pub(super) offset: i64,
}

/// Turns are numbered, so that what belongs to an earlier one is not taken for a later one's.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    turns: BTreeMap<u64, Turn>,
    begun: u64,
}

/// One time that this process has a partition.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// What the last process left.
    left: Mark,
    /// Before this offset, messages may have been begun by a process that died.
    doubt: i64,
    /// Those of them that were not tried again yet.
    doubted: BTreeSet<i64>,
    /// What came and is not settled, with what was noted of it.
    open: BTreeMap<i64, Open>,
    /// Behind what came last.
    position: i64,
    waiting: VecDeque<Carried>,
    waiting_bytes: usize,
    /// Behind what was handed out last.
    handed: i64,
    /// The brokers know that messages before this offset may have been begun.
    told_begun: i64,
    /// What has changed, and what of it the brokers know.
    version: u64,
    told: u64,
    /// The brokers know of attempts that may be made.
    unclean: bool,
    pub(super) paused: bool,
    /// Nothing more of it is handed out.
    ending: bool,
}

#[derive(Debug, Default)]
struct Open {
    note: Option<Note>,
    noted: u8,
}

/// What is to be committed of one turn.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) turn: u64,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) mark: String,
    version: u64,
    begun: Option<i64>,
}

impl Ledger {
    /// A partition becomes ours, from a committed offset on.
    pub(super) fn begin(&mut self, topic: &str, partition: i32, offset: i64, left: Option<Mark>) {
        let left = left.unwrap_or(Mark {
            end: offset,
            ..Mark::default()
        });
        let doubt = left.begun.unwrap_or(offset);
        self.begun += 1;
        let turn = Turn {
            topic: topic.to_owned(),
            partition,
            unclean: left.begun.is_some(),
            left,
            doubt,
            doubted: BTreeSet::new(),
            open: BTreeMap::new(),
            position: offset,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            handed: offset,
            told_begun: doubt,
            // Told once in any case: where a group is, must be known.
            version: 1,
            told: 0,
            paused: false,
            ending: false,
        };
        self.turns.insert(self.begun, turn);
    }
    pub(super) fn find(&self, topic: &str, partition: i32) -> Option<u64> {
        let mut turns = self.turns.iter();
        let found = turns.find(|(_, turn)| turn.partition == partition && turn.topic == topic);
        found.map(|(number, _)| *number)
    }
    pub(super) fn end(&mut self, turn: u64) {
        self.turns.remove(&turn);
    }
    pub(super) fn turn(&mut self, turn: u64) -> Option<&mut Turn> {
        self.turns.get_mut(&turn)
    }
    pub(super) fn turns(&mut self) -> impl Iterator<Item = (u64, &mut Turn)> {
        self.turns.iter_mut().map(|(number, turn)| (*number, turn))
    }
    /// Messages that may be handed out now, at most so many: one of each partition after the other, so that none is kept
    /// waiting for another's sake. And whether the brokers must be told something before there can be more.
    pub(super) fn hand_out(&mut self, most: usize, span: i64) -> (Vec<Carried>, bool) {
        let mut messages = Vec::new();
        let mut turns: Vec<&mut Turn> = self.turns.values_mut().collect();
        while messages.len() < most {
            let room = most - messages.len();
            let before = messages.len();
            messages.extend(turns.iter_mut().filter_map(|turn| turn.hand_out(span)).take(room));
            if messages.len() == before {
                break;
            }
        }
        let must_tell = turns.iter().any(|turn| turn.must_tell());
        (messages, must_tell)
    }
    /// The group is done with a message. False: its partition is somebody else's.
    pub(super) fn settle(&mut self, place: Place) -> bool {
        let Some(turn) = self.turns.get_mut(&place.turn) else {
            return false;
        };
        turn.settle(place.offset);
        true
    }
    /// Notes something of a message; answers from which version on the brokers know it.
    pub(super) fn note(&mut self, place: Place, note: Note) -> Option<u64> {
        let turn = self.turns.get_mut(&place.turn)?;
        let open = turn.open.get_mut(&place.offset)?;
        open.note = Some(note);
        open.noted = open.noted.saturating_add(1);
        // The first is written before it is tried, the second after that.
        if open.noted > 1 {
            turn.doubted.remove(&place.offset);
        }
        turn.version += 1;
        Some(turn.version)
    }
    pub(super) fn noted(&self, place: Place) -> Option<Note> {
        self.turns.get(&place.turn)?.open.get(&place.offset)?.note
    }
    /// Which version the brokers know; none: the turn has ended.
    pub(super) fn told(&self, turn: u64) -> Option<u64> {
        self.turns.get(&turn).map(|turn| turn.told)
    }
    /// Whether the brokers are to be told something.
    pub(super) fn is_due(&self) -> bool {
        self.turns.values().any(Turn::is_due)
    }
    /// What the brokers are to be told.
    pub(super) fn commits(&self) -> Vec<Commit> {
        let due = self.turns.iter().filter(|(_, turn)| turn.is_due());
        due.map(|(number, turn)| turn.commit(*number)).collect()
    }
    /// The brokers know.
    pub(super) fn committed(&mut self, commit: &Commit) {
        if let Some(turn) = self.turns.get_mut(&commit.turn) {
            turn.told = turn.told.max(commit.version);
            turn.unclean = commit.begun.is_some();
            turn.told_begun = commit.begun.unwrap_or(turn.handed);
        }
    }
}

impl Turn {
    /// Whether an offset is behind what came before: the partition has begun anew.
    pub(super) fn goes_back(&self, offset: i64) -> bool {
        offset < self.position
    }
    /// A message came that is none of the group's.
    pub(super) fn skip(&mut self, offset: i64) {
        self.position = offset + 1;
        self.version += 1;
    }
    /// A message came. It waits here until it is wanted.
    pub(super) fn take(&mut self, mut message: Carried) {
        let offset = message.place.offset;
        if self.ending {
            return;
        }
        self.position = offset + 1;
        if self.left.is_settled(offset) {
            self.version += 1;
            return;
        }
        let attempts = self.left.open.get(&offset).copied().unwrap_or(0);
        let doubt = offset < self.doubt;
        let mut open = Open::default();
        if doubt || attempts > 0 {
            message.delivered = 2;
            open.note = Some(Note {
                attempts,
                closed: u64::from(!doubt),
            });
        }
        if doubt {
            self.doubted.insert(offset);
        }
        self.open.insert(offset, open);
        self.waiting_bytes += message.bytes();
        self.waiting.push_back(message);
    }
    /// The next message that may be handed out. Those that nobody has begun wait for those that somebody may have.
    fn hand_out(&mut self, span: i64) -> Option<Carried> {
        let offset = self.waiting.front()?.place.offset;
        let held = offset >= self.doubt && !self.doubted.is_empty();
        if self.ending || held || offset >= self.told_begun || offset >= self.low().saturating_add(span) {
            return None;
        }
        let message = self.waiting.pop_front()?;
        self.waiting_bytes -= message.bytes();
        self.handed = offset + 1;
        Some(message)
    }
    /// Nothing more is handed out.
    pub(super) fn stop(&mut self) {
        self.ending = true;
        self.waiting.clear();
        self.waiting_bytes = 0;
    }
    /// Whether it is read too far ahead, or may be read on.
    pub(super) fn wants_pause(&self) -> bool {
        let full = |most: usize, bytes_max: usize| self.waiting.len() >= most || self.waiting_bytes >= bytes_max;
        if self.paused {
            full(WAITING_MAX / 2, WAITING_BYTES_MAX / 2)
        } else {
            full(WAITING_MAX, WAITING_BYTES_MAX)
        }
    }
    fn settle(&mut self, offset: i64) {
        if self.open.remove(&offset).is_some() {
            self.doubted.remove(&offset);
            self.version += 1;
        }
    }
    /// The first message that is not settled.
    fn low(&self) -> i64 {
        self.open.keys().next().copied().unwrap_or(self.position)
    }
    /// Whether the brokers must be told before the next message can go.
    fn must_tell(&self) -> bool {
        let next = self.waiting.front().map(|message| message.place.offset);
        next.is_some_and(|next| next >= self.told_begun)
    }
    /// Whether the brokers are to be told something; in the end also that it is one.
    fn is_due(&self) -> bool {
        let next = self.waiting.front().map(|message| message.place.offset);
        let soon = next.is_some_and(|next| next + AHEAD / 2 > self.told_begun);
        self.told < self.version || (self.ending && self.unclean) || (!self.ending && soon)
    }
    fn commit(&self, turn: u64) -> Commit {
        let offset = self.low();
        let begun = if self.ending {
            // What was in doubt and was not tried is in doubt still.
            (self.doubt > offset).then_some(self.doubt)
        } else {
            let next = self.waiting.front().map(|message| message.place.offset);
            let used = self.unclean || next.is_some();
            used.then(|| (next.unwrap_or(self.handed) + AHEAD).max(self.doubt))
        };
        let mut open: BTreeMap<i64, u32> = self
            .open
            .iter()
            .map(|(offset, open)| (*offset, open.note.map_or(0, |note| note.attempts)))
            .collect();
        // What has not come yet is as it was left.
        open.extend(self.left.open.range(self.position.max(offset)..));
        let mark = Mark {
            begun,
            open,
            end: self.position.max(self.left.end),
        };
        Commit {
            turn,
            topic: self.topic.clone(),
            partition: self.partition,
            offset,
            mark: mark.write(offset),
            version: self.version,
            begun,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Commit, Ledger, Place};
    use crate::{
        Message, Topic,
        transport::{
            kafka::{mark::Mark, note::Carried},
            lanes::Note,
        },
    };

    /// A ledger with one partition, which has been told what it may hand out.
    fn ledger(offset: i64, left: Option<Mark>, offsets: std::ops::Range<i64>) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.begin("t", 0, offset, left);
        for offset in offsets {
            ledger.turn(1).unwrap().take(Carried {
                place: Place { turn: 1, offset },
                delivered: 1,
                topic: Topic::from("t"),
                message: Message::new(""),
                history: Vec::new(),
            });
        }
        tell(&mut ledger);
        ledger
    }
    fn tell(ledger: &mut Ledger) -> Option<Commit> {
        let commit = ledger.commits().pop()?;
        ledger.committed(&commit);
        Some(commit)
    }
    fn offsets(ledger: &mut Ledger, span: i64) -> Vec<(i64, u64)> {
        let (messages, _) = ledger.hand_out(1_000, span);
        messages
            .iter()
            .map(|message| (message.place.offset, message.delivered))
            .collect()
    }
    fn settle(ledger: &mut Ledger, offset: i64) {
        assert!(ledger.settle(Place { turn: 1, offset }));
    }
    fn note(ledger: &mut Ledger, offset: i64, attempts: u32) {
        let note = Note { attempts, closed: 0 };
        assert!(ledger.note(Place { turn: 1, offset }, note).is_some());
    }

    #[test]
    fn the_first_unsettled_message_is_committed_and_what_is_settled_behind_it() {
        let mut ledger = ledger(10, None, 10..15);
        assert_eq!(offsets(&mut ledger, 100).len(), 5);
        settle(&mut ledger, 12);
        settle(&mut ledger, 10);
        note(&mut ledger, 11, 2);
        let commit = tell(&mut ledger).unwrap();
        assert_eq!(commit.offset, 11);
        let mark = Mark::read(&commit.mark, 11).unwrap();
        assert_eq!(mark.open.into_iter().collect::<Vec<_>>(), [(11, 2), (13, 0), (14, 0)]);
        assert!(mark.begun.is_some_and(|begun| begun > 14));
        assert!(tell(&mut ledger).is_none(), "they know it");
        ledger.turn(1).unwrap().stop();
        let commit = tell(&mut ledger).unwrap();
        assert_eq!(Mark::read(&commit.mark, 11).unwrap().begun, None, "it ends in order");
    }

    #[test]
    fn nothing_is_handed_out_before_the_brokers_know_that_it_may_be() {
        let mut ledger = Ledger::default();
        ledger.begin("t", 0, 0, None);
        let message = |offset| Carried {
            place: Place { turn: 1, offset },
            delivered: 1,
            topic: Topic::from("t"),
            message: Message::new(""),
            history: Vec::new(),
        };
        ledger.turn(1).unwrap().take(message(0));
        let (messages, must_tell) = ledger.hand_out(10, 10);
        assert!(messages.is_empty() && must_tell);
        tell(&mut ledger).unwrap();
        assert_eq!(offsets(&mut ledger, 10), [(0, 1)]);
        // Offsets have gaps, also wide ones.
        ledger.turn(1).unwrap().take(message(1_000_000));
        assert!(ledger.hand_out(10, i64::MAX).0.is_empty());
        tell(&mut ledger).unwrap();
        assert_eq!(offsets(&mut ledger, i64::MAX), [(1_000_000, 1)]);
    }

    #[test]
    fn what_may_have_been_begun_is_tried_before_anything_else() {
        let left = Mark {
            begun: Some(3),
            open: [(0, 1), (2, 0)].into(),
            end: 3,
        };
        let mut ledger = ledger(0, Some(left), 0..5);
        assert_eq!(offsets(&mut ledger, 100), [(0, 2), (2, 2)], "1 was settled");
        settle(&mut ledger, 0);
        // Counted before it is tried, then failed.
        note(&mut ledger, 2, 1);
        assert!(offsets(&mut ledger, 100).is_empty());
        note(&mut ledger, 2, 1);
        assert_eq!(offsets(&mut ledger, 100), [(3, 1), (4, 1)]);
    }

    #[test]
    fn what_was_in_doubt_and_was_not_tried_is_in_doubt_still() {
        let left = Mark {
            begun: Some(3),
            ..Mark::default()
        };
        let mut ledger = ledger(0, Some(left), 0..2);
        ledger.turn(1).unwrap().stop();
        let commit = tell(&mut ledger).unwrap();
        assert_eq!(Mark::read(&commit.mark, 0).unwrap().begun, Some(3));
    }

    #[test]
    fn a_slow_message_bounds_what_goes_on() {
        let mut ledger = ledger(0, None, 0..10);
        assert_eq!(offsets(&mut ledger, 3).len(), 3);
        settle(&mut ledger, 1);
        settle(&mut ledger, 2);
        assert!(offsets(&mut ledger, 3).is_empty());
        settle(&mut ledger, 0);
        assert_eq!(offsets(&mut ledger, 3), [(3, 1), (4, 1), (5, 1)]);
    }

    #[test]
    fn what_ends_with_its_turn_is_stale() {
        let mut ledger = ledger(0, None, 0..1);
        ledger.end(1);
        assert!(!ledger.settle(Place { turn: 1, offset: 0 }));
        ledger.begin("t", 0, 0, None);
        assert_eq!(ledger.find("t", 0), Some(2));
    }
}

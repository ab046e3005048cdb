//! One shard in this process: how far it was read, what is not done yet, and so where its checkpoint may be.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::{Anchor, Lease, Position, backend::Claimed};

/// A shard that this process holds.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) lease: Lease,
    /// Work may be done under the lease until then, by the monotonic clock.
    pub(super) trusted_until: Instant,
    /// All events up to here were taken in.
    read: Anchor,
    /// Taken in and not done. Its size is that of the work in flight, not of what was done beyond the first open event.
    pending: BTreeMap<Position, Open>,
    /// Payload of those.
    bytes: usize,
    saved: Anchor,
    /// Where its last owner came to.
    pub(super) began: Anchor,
    /// Up to here an owner that did not end well may have begun messages.
    pub(super) doubt: Position,
    /// Where its user says when it may go to another process: whether it has said so.
    let_go: Option<bool>,
    /// It had no room for an event: reading goes on at `read` when there is some.
    stalled: bool,
    /// It goes to another process as soon as nothing is pending, or at this time; where its user is asked, as soon as it lets
    /// go, or not for now.
    leaving: Option<Instant>,
    /// How often its user has not let it go.
    pub(super) stays: u32,
}

/// An event that is not done.
#[derive(Debug, Clone, Copy)]
struct Open {
    /// The last place that is known before it.
    before: Anchor,
    /// Of its payload.
    bytes: usize,
}

/// Events, and what they weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

impl Load {
    /// Whether one more event fits; its bytes may go beyond.
    pub(super) fn is_below(&self, most: &Self) -> bool {
        self.events < most.events && self.bytes < most.bytes
    }
}

impl Shard {
    pub(super) fn new(claimed: Claimed, trusted_until: Instant, let_go: Option<bool>) -> Self {
        let Claimed {
            lease,
            checkpoint,
            doubt,
        } = claimed;
        Self {
            lease,
            trusted_until,
            read: checkpoint,
            pending: BTreeMap::new(),
            bytes: 0,
            saved: checkpoint,
            began: checkpoint,
            doubt,
            let_go,
            stalled: false,
            leaving: None,
            stays: 0,
        }
    }
    pub(super) fn read(&self) -> Anchor {
        self.read
    }
    /// What is taken in and not done.
    pub(super) fn load(&self) -> Load {
        Load {
            events: self.pending.len(),
            bytes: self.bytes,
        }
    }
    /// Whether the reader has to do with it.
    pub(super) fn is_reading(&self) -> bool {
        !self.stalled && self.leaving.is_none()
    }
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }
    /// When it goes to another process whatever is pending; none where it stays, or its user is asked.
    pub(super) fn goes_at(&self) -> Option<Instant> {
        self.leaving.filter(|_| self.let_go.is_none())
    }
    /// Whether it can be given to another process now.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        let done = |until| self.pending.is_empty() || until <= now;
        self.leaving
            .is_some_and(|until| self.let_go.unwrap_or_else(|| done(until)))
    }
    /// Whether nothing of it is pending that its user has not let go.
    pub(super) fn is_idle(&self) -> bool {
        self.let_go.unwrap_or(self.pending.is_empty())
    }
    /// Stays where its user has not let it go in time; answers whether it does.
    pub(super) fn stay(&mut self, now: Instant) -> bool {
        let stays = self.let_go == Some(false) && self.leaving.take_if(|until| *until <= now).is_some();
        self.stays += u32::from(stays);
        stays
    }
    /// Its user is done with it; answers whether that is news.
    pub(super) fn let_go(&mut self) -> bool {
        self.let_go.replace(true) == Some(false)
    }
    /// Whether an event of a page that began after `from` is news to it.
    pub(super) fn wants(&self, from: Anchor, event: Position) -> bool {
        self.is_reading() && from.position <= self.read.position && self.read.position < event
    }

    /// Takes an event in; `before` is the last place that is known in front of it.
    pub(super) fn take(&mut self, event: Anchor, before: Anchor, bytes: usize) {
        let before = later(before, self.read);
        self.pending.insert(event.position, Open { before, bytes });
        self.bytes += bytes;
        self.read = event;
    }
    /// Leaves an event out for now: reading goes on with it.
    pub(super) fn stall(&mut self, before: Anchor) {
        self.stalled = true;
        self.read = later(before, self.read);
    }
    /// Reading may go on.
    pub(super) fn resume(&mut self) {
        self.stalled = false;
    }
    /// A page from `from` up to `to` had nothing more for it.
    pub(super) fn pass(&mut self, from: Anchor, to: Anchor) {
        if self.is_reading() && from.position <= self.read.position {
            self.read = later(to, self.read);
        }
    }
    /// Answers what the event weighed, if it was pending.
    pub(super) fn done(&mut self, event: Position) -> Option<usize> {
        let open = self.pending.remove(&event)?;
        self.bytes -= open.bytes;
        Some(open.bytes)
    }
    /// Nothing more is taken in; events that nobody has seen yet (the first of them given) are left to the next owner.
    /// Answers what those weigh.
    pub(super) fn leave(&mut self, until: Instant, unseen: Option<Position>) -> Load {
        self.leaving = Some(until);
        let Some(first) = unseen else { return Load::default() };
        let dropped = self.pending.split_off(&first);
        // What nobody has seen must not count as done once the rest is.
        if let Some(open) = dropped.values().next() {
            self.read = open.before;
        }
        let bytes = dropped.values().map(|open| open.bytes).sum();
        self.bytes -= bytes;
        Load {
            events: dropped.len(),
            bytes,
        }
    }

    /// All before it, and itself, are done.
    pub(super) fn low(&self) -> Anchor {
        self.pending.values().next().map_or(self.read, |open| open.before)
    }
    /// Where the checkpoint goes next, if it moved.
    pub(super) fn unsaved(&self) -> Option<Anchor> {
        Some(self.low()).filter(|low| low.position > self.saved.position)
    }
    pub(super) fn saved(&mut self, at: Anchor) {
        self.saved = at;
    }
    /// The checkpoint as it is stored.
    pub(super) fn checkpoint(&self) -> Anchor {
        self.saved
    }
}

fn later(one: Anchor, other: Anchor) -> Anchor {
    if one.position > other.position { one } else { other }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn at(position: i64) -> Anchor {
        let event = (position > 0).then(|| Uuid::from_u128(position as u128));
        Anchor {
            position: Position(position),
            event,
        }
    }
    fn shard() -> Shard {
        let lease = Lease {
            name: "test".into(),
            shard: 0,
            owner: Uuid::nil(),
            fence: 1,
        };
        let claimed = Claimed {
            lease,
            checkpoint: at(0),
            doubt: Position(0),
        };
        Shard::new(claimed, Instant::now(), None)
    }

    #[test]
    fn low_watermark_stands_before_the_first_open_event() {
        let mut shard = shard();
        shard.take(at(3), at(2), 1);
        shard.take(at(5), at(4), 1);
        shard.pass(at(0), at(9));
        assert_eq!(shard.low(), at(2));
        shard.done(Position(5));
        assert_eq!(shard.low(), at(2), "what is done behind an open event does not move it");
        shard.done(Position(3));
        assert_eq!(shard.low(), at(9), "what was filtered out counts as done");
    }

    #[test]
    fn unseen_events_of_a_leaving_shard_are_left_to_the_next_owner() {
        let mut shard = shard();
        shard.take(at(3), at(2), 1);
        shard.take(at(5), at(4), 1);
        shard.take(at(8), at(7), 1);
        assert_eq!(
            shard.leave(Instant::now() + Duration::from_secs(1), Some(Position(5))),
            Load { events: 2, bytes: 2 }
        );
        shard.pass(at(0), at(20));
        assert!(!shard.is_free(Instant::now()));
        shard.done(Position(3));
        assert!(shard.is_free(Instant::now()));
        assert_eq!(shard.low(), at(4));
    }

    proptest! {
        /// Against the plain definition: the highest place such that everything of the shard before it is done.
        #[test]
        fn low_watermark_is_that_of_the_definition(mine in prop::collection::vec(any::<bool>(), 1..40), order in any::<u64>()) {
            let mut shard = shard();
            let mut events: Vec<i64> = Vec::new();
            for (n, mine) in mine.iter().enumerate() {
                let position = n as i64 + 1;
                if *mine {
                    shard.take(at(position), at(position - 1), 1);
                    events.push(position);
                }
            }
            let end = mine.len() as i64;
            shard.pass(at(0), at(end));
            let mut open = events.clone();
            let mut seed = order;
            while !open.is_empty() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let event = open.remove((seed >> 33) as usize % open.len());
                prop_assert!(shard.done(Position(event)).is_some());
                prop_assert!(shard.done(Position(event)).is_none(), "it is done once");
                prop_assert_eq!(shard.low(), at(open.first().map_or(end, |first| first - 1)));
            }
        }
    }
}

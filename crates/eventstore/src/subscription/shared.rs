//! What the parts of a feed share: the shards that this process holds, and the signals that are ready to be handed out.
//!
//! One lock, held for the time of a page at most and never across an await.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    Signal,
    shard::{Load, Shard},
};
use crate::{
    Anchor, Error, Lease, Position, Recorded, Result,
    backend::{Claimed, Page},
    entry,
};

/// Checkpoints are saved so long after an event was done, at the latest.
const SAVE_AFTER: Duration = Duration::from_millis(100);
/// Checkpoints that only passed over events of others may wait so long: a restart looks at those again, and that is all.
const SAVE_PASSED_AFTER: Duration = Duration::from_secs(1);
/// So many events done make a save due at once.
const SAVE_AT: usize = 1_000;

/// Most payload and headers that are held in all, whatever the number of events. One more event may go beyond it.
const MOST_BYTES: usize = 64 << 20;

/// Shared by the feed, its reader, its keeper and its progress handles.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// A signal is ready, or a lease was prolonged that one waits for.
    pub(super) ready: Notify,
    /// The reader may find more to do.
    pub(super) room: Notify,
    /// The keeper may find more to do.
    pub(super) work: Notify,
    /// Checkpoints were saved, or shards are to go to another process.
    pub(super) changed: Notify,
}

/// What lies under the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) shards: BTreeMap<u16, Shard>,
    /// The user says when a shard may go.
    asks: bool,
    queue: VecDeque<Signal>,
    /// Events that are pending in all shards, in the queue or handed out.
    held: Load,
    /// The farthest place that was read in a shard which was lost since.
    left: Option<Anchor>,
    /// The most that it may be.
    most: Load,
    /// The reader stopped short somewhere for want of room.
    hungry: bool,
    /// Events or shards came in since the last `CaughtUp`.
    news: bool,
    /// Which of two readers' places has its turn.
    newest_first: bool,
    save_due: Option<Instant>,
    done: usize,
    end: Option<Error>,
    /// The user is told of the end only after what follows from it was written down.
    is_told: bool,
}

/// What [`Shared::take`] found.
pub(super) enum Taken {
    Signal(Signal),
    Nothing,
    End(Error),
}

impl Shared {
    /// `asks`: whether the feed's user is asked before a shard goes to another process.
    pub(super) fn new(most: usize, asks: bool) -> Self {
        let state = State {
            asks,
            shards: BTreeMap::new(),
            queue: VecDeque::new(),
            held: Load::default(),
            left: None,
            most: Load {
                events: most.max(1),
                bytes: MOST_BYTES,
            },
            hungry: false,
            news: false,
            newest_first: false,
            save_due: None,
            done: 0,
            end: None,
            is_told: false,
        };
        Self {
            state: Mutex::new(state),
            ready: Notify::new(),
            room: Notify::new(),
            work: Notify::new(),
            changed: Notify::new(),
        }
    }
    /// Every change leaves the state whole, so a panic elsewhere under the lock spoils nothing.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next signal, in order. An event of a shard whose lease is in doubt waits until it is prolonged or lost.
    pub(super) fn take(&self) -> Taken {
        let mut state = self.lock();
        if let Some(Signal::Event { shard, .. }) = state.queue.front()
            && !state.holds(*shard)
        {
            return Taken::Nothing;
        }
        match (state.queue.pop_front(), &state.end) {
            (Some(signal), _) => Taken::Signal(signal),
            (None, Some(error)) if state.is_told => Taken::End(error.clone()),
            (None, _) => Taken::Nothing,
        }
    }
    pub(super) fn done(&self, shard: u16, event: Position) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(of) = state.shards.get_mut(&shard) else { return };
        let Some(bytes) = of.done(event) else { return };
        let (free, stalled) = (of.is_idle() && of.is_leaving(), of.is_stalled());
        let was_full = !state.has_room();
        state.held.events -= 1;
        state.held.bytes -= bytes;
        state.done += 1;
        // Room elsewhere lets a stalled shard go on too; looked at now and then, not for each event.
        let often = || state.held.events.is_multiple_of(state.slack());
        if state.hungry && state.has_room() && (was_full || stalled && state.has_room_for(shard) || often()) {
            self.room.notify_one();
        }
        if state.want_save(SAVE_AFTER) || free {
            self.work.notify_one();
        }
    }
    /// A shard is this process's from now on.
    pub(super) fn gain(&self, claimed: Claimed, trusted_until: Instant) {
        let mut state = self.lock();
        state.news = true;
        let lease = claimed.lease.clone();
        let shard = lease.shard;
        state.queue.push_back(Signal::Gained { lease });
        let let_go = state.asks.then_some(false);
        state.shards.insert(shard, Shard::new(claimed, trusted_until, let_go));
        drop(state);
        self.room.notify_one();
        self.ready.notify_one();
    }
    /// A shard is this process's no longer, if it is so under this lease.
    pub(super) fn lose(&self, lease: &Lease) {
        let mut state = self.lock();
        let shard = lease.shard;
        if state.shards.get(&shard).is_none_or(|held| held.lease != *lease) {
            return;
        }
        let lost = state.shards.remove(&shard);
        let left = state.left.into_iter().chain(lost.as_ref().map(Shard::read));
        state.left = left.max_by_key(|read| read.position);
        let load = lost.map_or_else(Load::default, |lost| lost.load());
        state.held.events -= load.events;
        state.held.bytes -= load.bytes;
        let mut unseen = false;
        state.queue.retain(|signal| match signal {
            Signal::Event { shard: of, .. } => *of != shard,
            Signal::Gained { lease } if lease.shard == shard => {
                unseen = true;
                false
            }
            Signal::Gained { .. } | Signal::Lost { .. } | Signal::CaughtUp { .. } => true,
        });
        if !unseen {
            state.queue.push_back(Signal::Lost { shard });
        }
        drop(state);
        self.room.notify_one();
        self.ready.notify_one();
    }
    /// Leases were prolonged; those of `asked` that are not among `kept` are lost.
    pub(super) fn renewed(&self, asked: &[Lease], kept: &[Lease], trusted_until: Instant) -> usize {
        let mut state = self.lock();
        for lease in kept {
            if let Some(shard) = state.shards.get_mut(&lease.shard).filter(|shard| shard.lease == *lease) {
                shard.trusted_until = trusted_until;
            }
        }
        drop(state);
        self.ready.notify_one();
        let lost: Vec<_> = asked.iter().filter(|lease| !kept.contains(lease)).collect();
        lost.iter().for_each(|lease| self.lose(lease));
        lost.len()
    }
    /// Saves what moved as soon as may be.
    pub(super) fn save_now(&self) {
        self.lock().save_due = Some(Instant::now());
        self.work.notify_one();
    }
    /// Ends the feed, after what is queued already; its user is told when the keeper [says so](Self::tell).
    pub(super) fn end(&self, error: Error) {
        self.lock().end.get_or_insert(error);
        self.work.notify_one();
    }
    /// The user may be told of the end.
    pub(super) fn tell(&self) {
        self.lock().is_told = true;
        self.ready.notify_one();
    }
    /// Takes a page in. Answers whether there is nothing more to read for now.
    pub(super) fn fill(&self, from: Anchor, page: Page, place: impl Fn(&Recorded) -> u16) -> bool {
        let mut state = self.lock();
        let idle = state.fill(from, page, place);
        let save = state.want_save(SAVE_PASSED_AFTER);
        drop(state);
        self.ready.notify_one();
        if save {
            self.work.notify_one();
        }
        idle
    }
}

impl State {
    pub(super) fn holds(&self, shard: u16) -> bool {
        self.shards
            .get(&shard)
            .is_some_and(|shard| Instant::now() < shard.trusted_until)
    }
    pub(super) fn lease(&self, shard: u16) -> Option<Lease> {
        self.shards.get(&shard).map(|shard| shard.lease.clone())
    }
    pub(super) fn leases(&self) -> Vec<Lease> {
        self.shards.values().map(|shard| shard.lease.clone()).collect()
    }
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }
    pub(super) fn has_diverged(&self) -> bool {
        matches!(self.end, Some(Error::LogDiverged { .. }))
    }
    /// When checkpoints are to be saved, and when the first shard goes to another process whatever is pending.
    pub(super) fn dues(&self) -> (Option<Instant>, Option<Instant>) {
        let goes = self.shards.values().filter_map(Shard::goes_at).min();
        (self.save_due, goes)
    }
    /// How far the log was read at most, also in shards that were lost: a server that knows less may know nothing of the
    /// leases either.
    pub(super) fn farthest(&self) -> Option<Anchor> {
        let places = self.shards.values().map(Shard::read).chain(self.left);
        places.max_by_key(|read| read.position)
    }
    /// One of the shards.
    pub(super) fn first(&self) -> u16 {
        self.shards.keys().next().copied().unwrap_or_default()
    }
    /// Where each shard stands, saved or not.
    pub(super) fn standings(&self) -> Vec<(Lease, Anchor)> {
        let standing = |shard: &Shard| (shard.lease.clone(), shard.low());
        self.shards.values().map(standing).collect()
    }
    /// Up to where everything of this process's shards is done.
    pub(super) fn lowest(&self) -> Option<Position> {
        self.shards.values().map(|shard| shard.low().position).min()
    }

    /// Where the reader goes on; none while there is no room. Where shards stand at different places, the last and the first
    /// of them have their turns, so that a shard that has much to catch up does not hold up those that are live.
    pub(super) fn cursor(&mut self) -> Option<Anchor> {
        self.hungry = !self.has_room();
        if self.hungry {
            return None;
        }
        let resumed: Vec<u16> = self
            .shards
            .iter()
            .filter(|(n, shard)| shard.is_stalled() && self.has_room_for(**n))
            .map(|(n, _)| *n)
            .collect();
        for shard in resumed {
            self.shards.get_mut(&shard).into_iter().for_each(Shard::resume);
        }
        self.hungry = self.shards.values().any(Shard::is_stalled);
        self.newest_first = !self.newest_first;
        let places = self.shards.values().filter(|shard| shard.is_reading()).map(Shard::read);
        if self.newest_first {
            places.max_by_key(|read| read.position)
        } else {
            places.min_by_key(|read| read.position)
        }
    }

    fn fill(&mut self, from: Anchor, page: Page, place: impl Fn(&Recorded) -> u16) -> bool {
        let mut before = from;
        for event in page.events {
            let at = Anchor {
                position: event.position,
                event: Some(event.id),
            };
            self.offer(place(&event), event, from, before);
            before = at;
        }
        let scanned = if page.anchor.position > before.position {
            page.anchor
        } else {
            before
        };
        self.shards.values_mut().for_each(|shard| shard.pass(from, scanned));
        let reading = || self.shards.values().filter(|shard| shard.is_reading());
        let idle = page.end && reading().all(|shard| shard.read().position >= scanned.position);
        if idle && self.news && !self.shards.values().any(Shard::is_stalled) {
            self.news = false;
            if matches!(self.queue.back(), Some(Signal::CaughtUp { .. })) {
                self.queue.pop_back();
            }
            self.queue.push_back(Signal::CaughtUp { at: scanned.position });
        }
        idle
    }
    fn offer(&mut self, number: u16, event: Recorded, from: Anchor, before: Anchor) {
        let (room, limit) = (self.held.is_below(&self.most), self.limit());
        let shard = self.shards.get_mut(&number);
        let Some(shard) = shard.filter(|shard| shard.wants(from, event.position)) else {
            return;
        };
        if !room || !shard.load().is_below(&limit) {
            shard.stall(before);
            self.hungry = true;
            return;
        }
        let (position, bytes) = (event.position, event.event.len() + entry::bytes(&event.headers));
        let event_id = Some(event.id);
        shard.take(
            Anchor {
                position,
                event: event_id,
            },
            before,
            bytes,
        );
        self.held.events += 1;
        self.held.bytes += bytes;
        self.news = true;
        self.queue.push_back(Signal::Event { shard: number, event });
    }

    /// The most that one shard may have pending: as much as there is room left, so that shards that get nothing done never
    /// take all of it; its equal part at least.
    fn limit(&self) -> Load {
        let part = |held: usize, most: usize| most.saturating_sub(held).max(most / self.shards.len().max(1)).max(1);
        Load {
            events: part(self.held.events, self.most.events),
            bytes: part(self.held.bytes, self.most.bytes),
        }
    }
    /// So many more must fit for reading to go on: pages are not read for the sake of single events.
    fn slack(&self) -> usize {
        (self.most.events / 8).max(1)
    }
    fn has_room(&self) -> bool {
        self.held.events + self.slack() <= self.most.events && self.held.bytes < self.most.bytes
    }
    fn has_room_for(&self, shard: u16) -> bool {
        let (limit, load) = (self.limit(), self.shards.get(&shard).map(Shard::load));
        load.is_some_and(|load| load.events + (limit.events / 8).max(1) <= limit.events && load.bytes < limit.bytes)
    }

    /// Has checkpoints saved after `pause`, or at once after many events; answers whether the keeper must be told.
    fn want_save(&mut self, pause: Duration) -> bool {
        let wanted = match self.save_due {
            Some(_) if self.done == SAVE_AT => Some(Instant::now()),
            Some(due) if pause == SAVE_AFTER && self.done == 1 => Some(due.min(Instant::now() + pause)),
            due @ Some(_) => due,
            None if self.shards.values().all(|shard| shard.unsaved().is_none()) => None,
            None => Some(Instant::now() + pause),
        };
        let tell = wanted != self.save_due;
        self.save_due = wanted;
        tell
    }
    /// The checkpoints that moved. Counting starts anew.
    pub(super) fn moves(&mut self) -> Vec<(Lease, Anchor)> {
        self.save_due = None;
        self.done = 0;
        let moved = |shard: &Shard| shard.unsaved().map(|to| (shard.lease.clone(), to));
        self.shards.values().filter_map(moved).collect()
    }
    /// Another save is due after a failed one.
    pub(super) fn save_again(&mut self, at: Instant) {
        self.save_due = Some(at);
    }
    pub(super) fn saved(&mut self, moves: &[(Lease, Anchor)]) {
        for (lease, to) in moves {
            if let Some(shard) = self.shards.get_mut(&lease.shard).filter(|shard| shard.lease == *lease) {
                shard.saved(*to);
            }
        }
    }

    /// Whether the user says when a shard may go.
    pub(super) fn asks(&self) -> bool {
        self.asks
    }
    /// Prepares so many shards for another process: nothing more of them is handed out, and they go when nothing is pending.
    pub(super) fn leave(&mut self, count: usize, until: Instant) {
        let staying = self.shards.iter().rev().filter(|(_, shard)| !shard.is_leaving());
        let mut going: Vec<(u32, u16)> = staying.map(|(n, shard)| (shard.stays, *n)).collect();
        // Those last that could not go before.
        going.sort_by_key(|(stays, _)| *stays);
        for (_, number) in going.into_iter().take(count) {
            let of = |signal: &Signal| match signal {
                Signal::Event { shard, event } if *shard == number => Some(event.position),
                Signal::Event { .. } | Signal::Gained { .. } | Signal::Lost { .. } | Signal::CaughtUp { .. } => None,
            };
            let unseen = self.queue.iter().find_map(of);
            self.queue.retain(|signal| of(signal).is_none());
            if let Some(shard) = self.shards.get_mut(&number) {
                let dropped = shard.leave(until, unseen);
                self.held.events -= dropped.events;
                self.held.bytes -= dropped.bytes;
            }
        }
    }
    /// Keeps shards that were not let go in time; answers whether there are some.
    pub(super) fn stay(&mut self) -> bool {
        let now = Instant::now();
        let stays = self
            .shards
            .values_mut()
            .filter_map(|shard| shard.stay(now).then_some(()));
        stays.count() > 0
    }
    /// Shards that may go to another process now.
    pub(super) fn free(&self) -> Vec<Lease> {
        let now = Instant::now();
        self.shards
            .values()
            .filter(|shard| shard.is_free(now))
            .map(|shard| shard.lease.clone())
            .collect()
    }
    /// How many shards are to be kept.
    pub(super) fn kept(&self) -> usize {
        self.shards.values().filter(|shard| !shard.is_leaving()).count()
    }
}

/// The lease under which a shard is worked on, for a write.
pub(super) fn lease_of(shared: &Shared, name: &str, shard: u16) -> Result<Lease> {
    shared.lock().lease(shard).ok_or_else(|| Error::Fenced {
        name: name.to_owned(),
        shard,
    })
}

//! The members of a group, and what each of them has in flight.

use std::{
    collections::BTreeSet,
    task::{Context, Waker},
};

use super::queue::Entry;
use crate::Wake;

#[derive(Debug, Default)]
pub(super) struct Roster {
    members: Vec<Option<Member>>,
    /// Members that found nothing to take.
    idle: Vec<usize>,
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
    deliveries: u64,
}

/// One delivery that is not settled.
#[derive(Debug)]
struct Flight {
    delivery: u64,
    member: usize,
    entry: Entry,
}

#[derive(Debug)]
struct Member {
    connection: u64,
    in_flight: usize,
    max_in_flight: usize,
    ended: bool,
    waker: Option<Waker>,
}

/// Whether a member may take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    May,
    /// It has as many in flight as it asked for.
    Full,
    /// Its connection was closed.
    Ended,
}

impl Roster {
    pub(super) fn has_members(&self) -> bool {
        self.members.iter().any(Option::is_some)
    }
    /// How many connections have members that have not ended.
    pub(super) fn connections(&self) -> usize {
        let members = self.members.iter().flatten().filter(|member| !member.ended);
        members.map(|member| member.connection).collect::<BTreeSet<u64>>().len()
    }
    pub(super) fn join(&mut self, connection: u64, max_in_flight: usize) -> usize {
        let member = Member {
            connection,
            in_flight: 0,
            max_in_flight,
            ended: false,
            waker: None,
        };
        let vacant = self.members.iter().position(Option::is_none);
        let slot = vacant.unwrap_or(self.members.len());
        if vacant.is_none() {
            self.members.push(None);
        }
        self.members[slot] = Some(member);
        slot
    }
    /// Ends a membership; gives what it had in flight, oldest first.
    pub(super) fn leave(&mut self, member: usize) -> Vec<Entry> {
        self.members[member] = None;
        self.idle.retain(|&idle| idle != member);
        let mut entries = Vec::new();
        for slot in 0..self.flights.len() {
            if self.flights[slot]
                .as_ref()
                .is_some_and(|flight| flight.member == member)
            {
                entries.extend(self.free_slot(slot).map(|flight| flight.entry));
            }
        }
        entries.sort_by_key(|entry| entry.sequence);
        entries
    }
    /// Ends the members of a connection; what they have in flight stays theirs.
    pub(super) fn end(&mut self, connection: u64, wake: &mut Wake) {
        for member in self.members.iter_mut().flatten() {
            if member.connection == connection {
                member.ended = true;
                wake.add(member.waker.take());
            }
        }
    }
    pub(super) fn readiness(&self, member: usize) -> Readiness {
        match &self.members[member] {
            Some(member) if !member.ended && member.in_flight < member.max_in_flight => Readiness::May,
            Some(member) if !member.ended => Readiness::Full,
            _ => Readiness::Ended,
        }
    }
    /// Notes that a member waits: for a message, or for room in flight.
    pub(super) fn wait(&mut self, member: usize, readiness: Readiness, cx: &Context<'_>) {
        let Some(waiting) = self.members[member].as_mut() else {
            return;
        };
        if !waiting.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            waiting.waker = Some(cx.waker().clone());
        }
        if readiness == Readiness::May && !self.idle.contains(&member) {
            self.idle.push(member);
        }
    }
    /// Whether another member waits for a message.
    pub(super) fn another_waits(&self, member: usize) -> bool {
        self.idle.iter().any(|&idle| idle != member)
    }
    /// Wakes all members that wait for a message: one of them may be busy elsewhere and never look.
    pub(super) fn wake_idle(&mut self, wake: &mut Wake) {
        for member in self.idle.drain(..) {
            wake.add(self.members[member].as_mut().and_then(|member| member.waker.take()));
        }
    }

    /// A message goes out to a member; gives its place and the number of the delivery.
    pub(super) fn take_off(&mut self, member: usize, entry: Entry) -> (usize, u64) {
        self.deliveries += 1;
        if let Some(member) = self.members[member].as_mut() {
            member.in_flight += 1;
        }
        let slot = self.free.pop().unwrap_or(self.flights.len());
        if slot == self.flights.len() {
            self.flights.push(None);
        }
        self.flights[slot] = Some(Flight {
            delivery: self.deliveries,
            member,
            entry,
        });
        (slot, self.deliveries)
    }
    /// A delivery has ended; gives its message, and whether its connection was closed. None where it had ended before.
    pub(super) fn land(&mut self, slot: usize, delivery: u64, wake: &mut Wake) -> Option<(Entry, bool)> {
        self.flights
            .get(slot)?
            .as_ref()
            .filter(|flight| flight.delivery == delivery)?;
        let mut flight = self.free_slot(slot)?;
        flight.entry.had_by = Some(flight.member);
        let mut ended = true;
        if let Some(member) = self.members[flight.member].as_mut() {
            if member.in_flight >= member.max_in_flight {
                wake.add(member.waker.take());
            }
            member.in_flight -= 1;
            ended = member.ended;
        }
        Some((flight.entry, ended))
    }
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len() - self.free.len()
    }
    fn free_slot(&mut self, slot: usize) -> Option<Flight> {
        let flight = self.flights[slot].take()?;
        self.free.push(slot);
        Some(flight)
    }
}

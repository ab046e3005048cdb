//! The members of a group in one connection, and whom to wake.

use std::{
    collections::BTreeMap,
    task::{Context, Waker},
};

use super::wake::Wake;

/// For authors of transports: the members of a group in one connection, how many messages each of them has unsettled, and
/// how they are woken. No lock in here.
#[derive(Debug, Default)]
pub struct Roster {
    members: BTreeMap<u64, Member>,
    joined: u64,
}

#[derive(Debug)]
struct Member {
    in_flight: usize,
    max_in_flight: usize,
    waker: Option<Waker>,
}

impl Roster {
    /// Adds a member that may have so many messages unsettled, and answers its number.
    pub fn join(&mut self, max_in_flight: usize) -> u64 {
        self.joined += 1;
        let member = Member {
            in_flight: 0,
            max_in_flight,
            waker: None,
        };
        self.members.insert(self.joined, member);
        self.joined
    }
    /// Takes a member out; answers whether nobody is left.
    pub fn leave(&mut self, member: u64) -> bool {
        self.members.remove(&member);
        self.members.is_empty()
    }
    /// The members.
    pub fn members(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }
    /// How many messages each member may have unsettled.
    pub fn limits(&self) -> impl Iterator<Item = usize> {
        self.members.values().map(|member| member.max_in_flight)
    }
    /// Whether a member may take one more.
    pub fn may_take(&self, member: u64) -> bool {
        self.members
            .get(&member)
            .is_some_and(|member| member.in_flight < member.max_in_flight)
    }
    /// A member found nothing to take, and is to be woken.
    pub fn wait(&mut self, member: u64, cx: &Context<'_>) {
        let Some(waiting) = self.members.get_mut(&member) else {
            return;
        };
        if !waiting.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            waiting.waker = Some(cx.waker().clone());
        }
    }
    /// A member has one message more.
    pub fn take_off(&mut self, member: u64) {
        if let Some(member) = self.members.get_mut(&member) {
            member.in_flight += 1;
        }
    }
    /// A delivery has ended; a member that was full goes on.
    pub fn land(&mut self, member: u64, wake: &mut Wake) {
        let Some(member) = self.members.get_mut(&member) else {
            return;
        };
        if member.in_flight >= member.max_in_flight {
            wake.add(member.waker.take());
        }
        member.in_flight -= 1;
    }
    /// Wakes all members that wait: one of them may be busy elsewhere and never look.
    pub fn wake_all(&mut self, wake: &mut Wake) {
        for member in self.members.values_mut() {
            wake.add(member.waker.take());
        }
    }
}

//! The members of a subscription in this process, and whom to wake.

use std::{
    collections::BTreeMap,
    task::{Context, Waker},
};

use crate::transport::wake::Wake;

/// So many messages are fetched for a member beyond what it may have unsettled, at most: enough that it need not wait for
/// the broker, and few enough that another process is not kept waiting for them.
const PREFETCH_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Roster {
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
    pub(super) fn join(&mut self, max_in_flight: usize) -> u64 {
        self.joined += 1;
        let member = Member {
            in_flight: 0,
            max_in_flight,
            waker: None,
        };
        self.members.insert(self.joined, member);
        self.joined
    }
    /// Answers whether nobody is left.
    pub(super) fn leave(&mut self, member: u64) -> bool {
        self.members.remove(&member);
        self.members.is_empty()
    }
    /// How many messages may be held that are with a member or on their way to one.
    pub(super) fn busy_max(&self) -> usize {
        let members = self.members.values();
        members
            .map(|member| member.max_in_flight + member.max_in_flight.min(PREFETCH_MAX))
            .sum()
    }
    /// Whether a member may take one more.
    pub(super) fn may_take(&self, member: u64) -> bool {
        self.members
            .get(&member)
            .is_some_and(|member| member.in_flight < member.max_in_flight)
    }
    pub(super) fn wait(&mut self, member: u64, cx: &Context<'_>) {
        let Some(waiting) = self.members.get_mut(&member) else {
            return;
        };
        if !waiting.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            waiting.waker = Some(cx.waker().clone());
        }
    }
    pub(super) fn take_off(&mut self, member: u64) {
        if let Some(member) = self.members.get_mut(&member) {
            member.in_flight += 1;
        }
    }
    /// A delivery has ended; a member that was full goes on.
    pub(super) fn land(&mut self, member: u64, wake: &mut Wake) {
        let Some(member) = self.members.get_mut(&member) else {
            return;
        };
        if member.in_flight >= member.max_in_flight {
            wake.add(member.waker.take());
        }
        member.in_flight -= 1;
    }
    /// Wakes all members that wait: one of them may be busy elsewhere and never look.
    pub(super) fn wake_all(&mut self, wake: &mut Wake) {
        for member in self.members.values_mut() {
            wake.add(member.waker.take());
        }
    }
}

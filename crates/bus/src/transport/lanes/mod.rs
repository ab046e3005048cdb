//! What a subscription in this process knows of messages that a broker has delivered to it and not got settled: shared by
//! all transports to brokers.
//!
//! ```text
//!  broker ──arrive──► Book ──poll──► members ──settle──► broker
//!                      ▲  │
//!                      │  └─ chores: read a note, write a note ─► clerk ──► broker
//!                      └──── due again, counted ◄───────────────────┘
//! ```
//!
//! - All members of a group in one connection share one [`Group`], so that the order of a key holds among them. Under
//!   [`Order::Key`](crate::Order) at most one message of a key is out of its lane; a retry holds its key here until it is due.
//! - Little is fetched ahead: for each member as much again as it may have unsettled, 64 at most; and no more than 1,024
//!   messages are held for all of them, so that a crowd behind one key is bounded. A key that fills that bound holds up others.
//!   Where a broker's limit is for a consumer's life, as RabbitMQ's, what an earlier one was given comes on top for a time.
//! - A message that the broker delivers again while it is held is the same message under a new token.
//! - *Attempts* are counted in memory, and noted with the broker before a retry is taken, so that they travel. A first
//!   delivery costs no note.
//! - *Doubt*: a message that comes again although no attempt of the delivery before was noted to have ended may have killed
//!   its process. Each attempt of those is noted before it is made, of several together at first, and then of each alone
//!   (`trials.rs`). So a message that kills its process is delivered at most once more than its attempts say, and others
//!   lose at most one attempt by it.
//! - Where a broker takes back all that it delivered, because its channel is gone, what nobody is busy with is forgotten here
//!   and comes again. What is with a member keeps its key, and goes on under a new token if it comes again to this process;
//!   else it ends with its delivery.
//! - A stream that is dropped, or closed, gives back uncounted. A delivery that is dropped was an attempt.

mod book;
mod clerk;
mod entry;
mod group;
mod member;
mod settle;
mod story;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::{fmt::Debug, time::Duration};

pub(crate) use self::{
    entry::{Arrival, Note},
    group::Group,
    story::{tell, told},
    subscriptions::Subscriptions,
};
use crate::{Message, Result, Topic, dead_letter::Death};

/// What a transport does with one message, named by its id and by the token of its latest delivery.
pub(crate) trait Broker: Send + Sync + 'static {
    /// Grows in the order in which messages are to be handled.
    type Id: Copy + Ord + Debug + Send + Sync + 'static;
    /// One of the broker's deliveries of a message.
    type Token: Clone + Send + Sync + 'static;

    /// How long a settlement is tried while the broker cannot be reached: as long as the broker waits for it.
    fn patience(&self) -> Duration;
    /// Reads what was noted of a message.
    fn recall(&self, id: Self::Id) -> impl Future<Output = Result<Option<Note>>> + Send;
    /// Notes something in place of what was noted before; returns when the broker has it.
    fn note(&self, id: Self::Id, note: Note) -> impl Future<Output = Result<()>> + Send;
    /// The message has ended: its note is not needed any more.
    fn forget(&self, id: Self::Id) -> impl Future<Output = ()> + Send;
    /// Tells the broker that the group is done with a message; returns when it knows.
    fn ack(&self, token: &Self::Token) -> impl Future<Output = Result<()>> + Send;
    /// Gives a message back, to come again after a time. Need not wait until the broker knows.
    fn give_back(&self, token: &Self::Token, after: Option<Duration>) -> impl Future<Output = Result<()>> + Send;
    /// Puts a message among the dead letters; returns when it is there.
    fn bury(&self, letter: &Letter) -> impl Future<Output = Result<()>> + Send;
}

/// A message on its way to the dead letters.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) topic: Topic,
    pub(crate) message: Message,
    pub(crate) last: Death,
    pub(crate) history: Vec<Death>,
}

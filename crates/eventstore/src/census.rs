//! The seam to databases, as a log that serves as a bus is counted: what lies in it by topic, and what of it a group has not
//! done. For operators: nothing here is asked for while messages are handled.

use futures_core::future::BoxFuture;
use sagamill_bus::{Headers, Topic};

use crate::{Position, Result};

/// Counts what is there, and changes nothing.
pub(crate) trait Census: Send + Sync + 'static {
    /// What lies under each topic, by name.
    fn topics(&self) -> BoxFuture<'_, Result<Vec<Heap>>>;
    /// The events with a topic that lie after a position, up to another one, in their order, without their content. Of their
    /// headers those are read in which these bytes stand.
    fn slips<'a>(&'a self, after: Position, until: Position, mark: &'a str) -> BoxFuture<'a, Result<Vec<Slip>>>;
    /// What is known of a subscription's messages, of all its shards: those that are begun, and those after a position that
    /// were given up.
    fn noted<'a>(&'a self, name: &'a str, after: Position) -> BoxFuture<'a, Result<Noted>>;
}

/// What lies under one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heap {
    pub(crate) topic: Topic,
    pub(crate) events: u64,
    pub(crate) first: Position,
    pub(crate) last: Position,
}

/// An event, without its content.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slip {
    pub(crate) position: Position,
    pub(crate) topic: Topic,
    /// Its key, or its stream where it has none.
    pub(crate) place: String,
    /// None of them where the mark does not stand in them.
    pub(crate) headers: Headers,
}

/// Places by shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) begun: Vec<(u16, Position)>,
    pub(crate) buried: Vec<(u16, Position)>,
}

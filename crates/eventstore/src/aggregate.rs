//! Deciders: state folded from events, and the decisions taken on it.

use sagamill_bus::Event;

use crate::{Error, Version};

/// State folded from events, and the decisions taken on it. Pure: no clock, no input or output.
pub trait Aggregate: Default + Send + 'static {
    /// The category of its streams: `order` makes `order-42`.
    const NAME: &'static str;
    /// What is asked of it.
    type Command: Send;
    /// What happens to it.
    type Event: Event;
    /// Why it may say no.
    type Error: std::error::Error;

    /// What happens when this is asked.
    ///
    /// # Errors
    /// The aggregate's own no.
    fn decide(&self, command: Self::Command) -> Result<Vec<Self::Event>, Self::Error>;
    /// The state after an event.
    fn evolve(&mut self, event: Self::Event);
}

/// An aggregate as its stream has it.
#[derive(Debug)]
pub struct Loaded<A> {
    /// Folded from all its events.
    pub state: A,
    /// Its stream's version; none: it has no event yet.
    pub version: Option<Version>,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<E> {
    /// The aggregate said no.
    #[error(transparent)]
    Refused(E),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

//! The table: which event may follow which state of a step, and of the saga.

/// An event that cannot follow the state it stands after: the stream is damaged, or another library wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{event}` cannot follow {state}")]
pub struct IllegalTransition {
    /// The event's name.
    pub event: &'static str,
    /// Where the saga, or its step, was.
    pub state: String,
}

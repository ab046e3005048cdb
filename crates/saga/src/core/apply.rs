//! Folds events into the state.

use super::{DecodeError, IllegalTransition, Plan, SagaEvent, State};

/// Why a saga's stream makes no state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// An event cannot be read, or is of a newer library: hand the saga back.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An event cannot follow what stands before it.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The definition's code makes another state of this event than it did when the event was stored: register the old
    /// code under its version and the new one under the next.
    #[error("the code of step `{step}` has changed: event {event} of the saga makes another state than it did")]
    CodeChanged {
        /// The step whose fold it is; `start` for the input.
        step: String,
        /// The event's version in the stream.
        event: i64,
    },
    /// An input, a reply or a rejection does not fit its type any more.
    #[error("event {event} of the saga does not fit the type of `{step}`")]
    Unreadable {
        /// The step whose reply it is; `start` for the input.
        step: String,
        /// The event's version in the stream.
        event: i64,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
    /// It was started by a definition of another shape under the same name and version.
    #[error("the definition has another shape than the one that started the saga: count up its version")]
    DigestChanged {
        /// What the saga pins.
        pinned: u64,
        /// What the definition has.
        known: u64,
    },
}

/// Folds one event in, and checks the memory's hash where the event has one.
///
/// # Errors
/// The state is then of no use.
pub fn apply(_plan: &Plan, _state: &mut State, _event: &SagaEvent) -> Result<(), LoadError> {
    todo!()
}

/// Folds a saga's events, in order.
///
/// # Errors
/// See [`LoadError`].
pub fn load<'a>(_plan: &Plan, _key: &str, _events: impl IntoIterator<Item = &'a SagaEvent>) -> Result<State, LoadError> {
    todo!()
}

/// Folds a saga's events without a look at digests and hashes, so that one with changed code can be parked.
///
/// # Errors
/// See [`LoadError`].
pub fn load_unverified<'a>(
    _plan: &Plan,
    _key: &str,
    _events: impl IntoIterator<Item = &'a SagaEvent>,
) -> Result<State, LoadError> {
    todo!()
}

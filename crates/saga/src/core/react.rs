//! Decides: which events follow from inputs.

use sagamill_eventstore::NewEvent;
use uuid::Uuid;

use super::{Input, LoadError, Plan, SagaEvent, State};

/// What follows from inputs.
#[derive(Debug, Clone)]
pub struct Decision {
    /// What is to be appended, all at once, after [`State::version`] of the state it was decided from.
    pub events: Vec<Decided>,
    /// The state after that.
    pub next: State,
    /// What became of each input that decided nothing, by its place in the slice. Final only if the state was not stale.
    pub noops: Vec<(usize, NoOp)>,
}

/// An event that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The input's cause.
    pub cause: Uuid,
    /// Its place among the events of this cause.
    pub ordinal: u32,
    /// The event.
    pub event: SagaEvent,
}

/// Why nothing follows from an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoOp {
    /// There is no such saga yet.
    NotStarted,
    /// It has started before.
    AlreadyStarted,
    /// It has ended.
    Ended,
    /// The step has its answer, or another round, or was undone; the timer is not wanted any more.
    Stale,
    /// The definition has no such step.
    UnknownStep,
    /// It goes back already, or the cancel is on record already.
    AlreadyCancelled,
    /// It is parked already.
    AlreadyParked,
    /// Nothing waits.
    NothingToResume,
    /// The step is not one that can be skipped now.
    NotSkippable,
    /// Somebody or something was faster: the verb was meant for another version.
    Moved,
    /// The participant may have forgotten the effect: asking again could do it twice.
    PastRetention,
}

/// Why nothing could be decided.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReactError {
    /// A command cannot be written as JSON.
    #[error("the command of step `{step}` cannot be encoded")]
    Encode {
        /// The step.
        step: String,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
    /// The input of a start is not of the definition's state.
    #[error("the input does not fit the saga's state")]
    Input(#[source] serde_json::Error),
    /// The state cannot be hashed, or a rule of the table is broken.
    #[error(transparent)]
    Apply(#[from] LoadError),
}

impl Decision {
    /// The events as they are stored. `process` names this process and its incarnation.
    pub fn encode(&self, process: &str) -> Vec<NewEvent> {
        self.events.iter().map(|decided| super::codec::encode(&self.next.identity, decided, process)).collect()
    }
}

/// Decides what follows from the inputs that wait for one saga: the same as deciding them one by one.
///
/// # Errors
/// See [`ReactError`]: the inputs cannot be decided at all.
pub fn react(_plan: &Plan, _state: &State, _inputs: &[Input]) -> Result<Decision, ReactError> {
    todo!()
}

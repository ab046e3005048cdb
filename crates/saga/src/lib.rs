//! Sagas: transactions over several services that complete or are undone step by step.

mod barrier;
mod command;
mod coordinator;
pub mod core;
mod definition;
mod error;
mod handling;
mod local;
pub mod metric_definitions;
mod participant;
mod serve;
mod step;
pub mod test;
pub mod wire;

pub use barrier::{migrate, migrations};
pub use command::{Undo, UndoResult, Undoes};
pub use coordinator::{Coordinator, Instance, Outcome, Sagas};
pub use definition::{
    AfterPivot, AtPivot, BARRIER_RETENTION, BeforePivot, Compensatable, Definition, NAME_BYTES_MAX, NOT_AFTER,
    PivotAhead, Retriable, Saga,
};
pub(crate) use error::chain;
pub use error::{Error, Result};
pub use local::LocalContext;
pub use participant::{Participant, Request, SagaContext, Transacts, Tx};
pub use sagamill_bus::{self as bus, Bus, Event, HandlerError, Retry, State};
pub use sagamill_bus::{Answer, Command, IntoAnswer, Never, RejectionOf, ReplyOf};
pub use sagamill_eventstore::{self as eventstore, EventStore};
pub use step::{
    BACKOFF, Call, DOUBT_ATTEMPTS, Data, Local, LocalRun, NoUndo, Plain, Step, TIMEOUT, TakesReply, call, local,
};

/// What nearly every user of sagas imports.
pub mod prelude {
    pub use crate::Answer::{self, Done, Rejected};
    pub use crate::{Bus, Command, Coordinator, Definition, Event, EventStore, HandlerError, Outcome, Participant};
    pub use crate::{Retry, Saga, SagaContext, Sagas, State, Tx, Undo, call, local};
}

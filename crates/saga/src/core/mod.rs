//! The pure half: what a saga's events are, what state they make, and which events follow from an input.
//!
//! ```text
//! stored events -> apply -> State -> react(inputs) -> Decision { events, next state } -> append
//!                             |-> timers, local_work, why
//! ```
//! Nothing here does I/O, reads a clock or draws a random number: times and ids come in as values. So replaying a saga
//! has no effect but its state, and everything here can be explored exhaustively.

mod advance;
mod answer;
mod apply;
mod codec;
mod digest;
mod event;
mod history;
mod input;
mod memory;
mod orphan;
mod plan;
mod react;
mod state;
mod summary;
#[cfg(test)]
mod tests;
mod transition;
mod verb;
mod why;

pub use apply::{LoadError, apply, load, load_unverified};
pub(crate) use codec::digest_of;
pub use codec::{CORE_REV, DecodeError, Entry, header};
pub(crate) use digest::SHAPES_MAX;
pub use event::{
    Ask, Begun, By, Content, Doubt, Fact, Finish, Identity, ParkReason, Parked, Phase, Request, SagaEvent,
};
pub use history::{AttemptHistory, History, StepHistory, UndoHistory};
pub use input::{Input, InputKind, Reported};
pub use memory::Memory;
pub(crate) use orphan::Orphan;
pub use plan::{AskFn, InDoubt, Plan, Stage, StepKind, StepPlan, UndoFn, UndoPlan};
pub use react::{Decided, Decision, NoOp, ReactError, react};
pub use state::{Direction, LocalWork, State, Status, StepState, StepStatus, Timer};
pub use summary::{Summary, SummaryState};
pub use transition::IllegalTransition;
pub use why::{Why, why};

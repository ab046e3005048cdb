//! Tests of sagas: given, when, then; faults at every step; schedules explored. No broker, no database, no clock.
//!
//! [`SagaTest`] plays one saga by hand. [`Explore`] plays it against a model of its participants, whose barrier behaves as
//! the real one does, over crashes, lost, repeated, late and reordered messages, cancels, deadlines and operators; and
//! checks after each schedule what must hold for every saga, beside the rules of one's own.

mod barrier;
mod explore;
mod fault;
mod play;
mod rule;
mod sample;
mod simulation;

pub use explore::Explore;
pub use play::{Asked, SagaTest};

//! Why a saga is where it is, in one sentence.

use jiff::Timestamp;

use super::{Plan, State};

/// Why a saga is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// In a few words.
    pub head: String,
    /// In one sentence.
    pub text: String,
    /// Who has to move: a service, `you`, or `nobody`.
    pub next: String,
}

/// Says why a saga is where it is.
pub fn why(_plan: &Plan, _state: &State, _now: Timestamp) -> Why {
    todo!()
}

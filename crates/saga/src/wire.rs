//! What travels between a coordinator and a participant: commands, undos and replies as CloudEvents in binary mode.
//!
//! | | topic | `ce-type` | payload |
//! |---|---|---|---|
//! | command | `<service>.commands` | the command's `NAME` | the command, JSON |
//! | undo | the same | the same, with `ce-sagaphase: compensate` | the command that is to be undone, JSON |
//! | reply | `<definition>.v<version>.replies` | `saga.reply` | the reply, the rejection, or `{"error": ".."}`, JSON |
//!
//! A command is the log's event `saga.step-requested` (an undo: `saga.undo-requested`): its payload is what travels and its
//! headers are the attributes below, so the relay publishes it as it is. A reply echoes every `ce-saga…` attribute of what
//! it answers.

pub use sagamill_bus::command_topic;

/// The saga's own id, a UUID: one per instance, not the business key.
pub const SAGA: &str = "ce-sagaid";
/// The definition's name.
pub const DEFINITION: &str = "ce-sagatype";
/// The definition's version.
pub const DEFINITION_VERSION: &str = "ce-sagaversion";
/// The business key: with the definition's name it makes the saga's stream.
pub const KEY: &str = "ce-sagakey";
/// The step's name.
pub const STEP: &str = "ce-sagastep";
/// [`FORWARD`] or [`COMPENSATE`].
pub const PHASE: &str = "ce-sagaphase";
/// The step's stage in the definition, from 0; steps of a parallel group share one.
pub const GROUP: &str = "ce-sagagroup";
/// Which run of a repeated step, from 1.
pub const ITERATION: &str = "ce-sagaiteration";
/// Counts up where a step is tried anew after a rejection, from 1: a new round has a new effect id.
pub const ROUND: &str = "ce-sagaround";
/// Which ask of this effect, from 1.
pub const ATTEMPT: &str = "ce-sagaattempt";
/// The effect id, a UUID: the same on every ask, the key of the participant's barrier.
pub const EFFECT: &str = "ce-idempotencykey";
/// Where the reply goes.
pub const REPLY_TO: &str = "ce-sagareplyto";
/// On a reply: one of [`OUTCOME_DONE`] and its siblings.
pub const OUTCOME: &str = "ce-sagaoutcome";

/// The `ce-type` of every reply.
pub const REPLY_TYPE: &str = "saga.reply";
/// The step's own phase.
pub const FORWARD: &str = "forward";
/// The phase of its undo.
pub const COMPENSATE: &str = "compensate";
/// The effect is there (of an undo: it is gone, or never was); the payload is the reply.
pub const OUTCOME_DONE: &str = "done";
/// Refused, which proves that nothing was changed; the payload is the rejection.
pub const OUTCOME_REJECTED: &str = "rejected";
/// Came later than its expiry and was left undone: ask again.
pub const OUTCOME_EXPIRED: &str = "expired";
/// Cannot succeed (a permanent error): of an undo it parks the saga; forward it parks or, where nothing can have happened
/// yet, is said as a rejection by the participant itself. The payload is `{"error": ".."}`.
pub const OUTCOME_FAILED: &str = "failed";

/// The topic of the replies to all sagas of a definition's version.
pub fn reply_topic(definition: &str, version: u32) -> String {
    format!("{definition}.v{version}.replies")
}

/// The stream of a saga: `saga-<definition>/<key>`.
pub fn stream(definition: &str, key: &str) -> String {
    format!("{CATEGORY}-{definition}/{key}")
}

/// The category of all sagas' streams.
pub const CATEGORY: &str = "saga";

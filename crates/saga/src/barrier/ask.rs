//! One ask of an effect, and what is answered to it.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use sagamill_bus::{Headers, MessageId, Topic, headers::name};
use sagamill_eventstore::{NewEvent, StreamId};
use uuid::Uuid;

use super::{Phase, Row, State};
use crate::wire;

/// One ask, from a message or from this process.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) effect: Uuid,
    pub(crate) phase: Phase,
    pub(crate) command_name: String,
    pub(crate) command: Bytes,
    pub(crate) definition: String,
    pub(crate) saga: Uuid,
    pub(crate) saga_key: String,
    pub(crate) step: String,
    pub(crate) attempt: u32,
    /// Refused without effect when it comes later.
    pub(crate) not_after: Option<Timestamp>,
    /// None: whoever asks waits for the verdict.
    pub(crate) reply_to: Option<ReplyTo>,
}

/// Where the reply goes, and what it echoes.
#[derive(Debug, Clone)]
pub(crate) struct ReplyTo {
    pub(crate) topic: Topic,
    /// The message that asks: a repeat of it makes the same reply.
    pub(crate) message: MessageId,
    pub(crate) correlation: Option<Uuid>,
    pub(crate) headers: Headers,
}

/// What an ask comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The effect is there; of an undo: it is gone, or never was.
    Done(Bytes),
    /// Refused without effect.
    Rejected(Bytes),
    /// Came too late; nothing was done.
    Expired,
    /// Cannot succeed.
    Failed(String),
    /// Somebody is at it: ask again after a while.
    Busy(Duration),
}

/// The stream of all that is answered about an effect.
pub(crate) fn stream(effect: Uuid) -> StreamId {
    StreamId::from(format!("effect-{effect}"))
}

impl Ask {
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.not_after.is_some_and(|limit| limit < now)
    }
    /// The row that a first ask writes.
    pub(crate) fn row(&self, phase: Phase, state: State, now: Timestamp) -> Row {
        Row {
            effect: self.effect,
            phase,
            state,
            reply: None,
            command_name: self.command_name.clone(),
            command: self.command.clone(),
            definition: self.definition.clone(),
            saga: self.saga,
            saga_key: self.saga_key.clone(),
            step: self.step.clone(),
            first_asked: now,
            not_after: self.not_after,
            owner: None,
            lease_until: None,
            updated_at: now,
        }
    }
    /// The action's own ask again, as its row remembers it, made by this process to learn how it ended.
    pub(crate) fn again(&self, row: &Row) -> Self {
        Self {
            phase: Phase::Forward,
            command_name: row.command_name.clone(),
            command: row.command.clone(),
            not_after: None,
            reply_to: None,
            ..self.clone()
        }
    }
    /// The event that answers it; none where nobody is to be answered, or not yet.
    pub(crate) fn reply(&self, verdict: &Verdict) -> Option<NewEvent> {
        let to = self.reply_to.as_ref()?;
        let (outcome, payload) = match verdict {
            Verdict::Done(reply) => (wire::OUTCOME_DONE, reply.clone()),
            Verdict::Rejected(rejection) => (wire::OUTCOME_REJECTED, rejection.clone()),
            Verdict::Expired => (wire::OUTCOME_EXPIRED, error("the ask came later than its expiry")),
            Verdict::Failed(why) => (wire::OUTCOME_FAILED, error(why)),
            Verdict::Busy(_) => return None,
        };
        let mut headers = to.headers.clone();
        headers.set(wire::OUTCOME, outcome);
        headers.set(name::MANDATORY, "1");
        let id = MessageId::derived(to.message.0, stream(self.effect).as_str(), 0).0;
        Some(NewEvent {
            id,
            topic: Some(to.topic.clone()),
            key: Some(self.saga_key.clone()),
            correlation: to.correlation,
            causation: Some(to.message.0),
            headers,
            ..NewEvent::new(wire::REPLY_TYPE, payload)
        })
    }
}

/// The payload of an outcome that has no content of its own.
pub(crate) fn error(what: &str) -> Bytes {
    serde_json::json!({ "error": what }).to_string().into()
}

//! Writes events as they are stored; a request's are what travels.

use bytes::Bytes;
use jiff::Timestamp;
use sagamill_bus::{Headers, MessageId, headers::name};
use sagamill_eventstore::NewEvent;
use serde::Serialize;

use super::{CORE_REV, Note, header, write_begun};
use crate::{
    core::{Ask, Decided, Doubt, Fact, Identity, Request},
    wire,
};

pub(in crate::core) fn encode(identity: &Identity, digest: u64, decided: &Decided, process: &str) -> NewEvent {
    let event = &decided.event;
    let mut new = NewEvent::new(event.fact.name(), Bytes::new());
    new.id = MessageId::derived(decided.cause, &identity.stream(), decided.ordinal).0;
    new.correlation = Some(identity.instance);
    new.causation = Some(decided.cause);
    let headers = &mut new.headers;
    headers.set(wire::SAGA, identity.instance.to_string());
    headers.set(wire::DEFINITION, &*identity.definition);
    headers.set(wire::DEFINITION_VERSION, identity.version.to_string());
    headers.set(wire::KEY, &*identity.key);
    headers.set(header::DIGEST, format!("{digest:016x}"));
    headers.set(header::CORE, CORE_REV.to_string());
    headers.set(header::TIME, event.at.to_string());
    headers.set(header::PROCESS, process);
    if let Some(hash) = event.hash {
        headers.set(header::HASH, format!("{hash:016x}"));
    }
    if !event.begun.is_empty() {
        headers.set(header::BEGUN, write_begun(&event.begun));
    }
    if let Some(ask) = event.fact.ask() {
        set_ask(headers, ask);
    }
    set_fact(&mut new, identity, &event.fact);
    new
}

fn set_ask(headers: &mut Headers, ask: &Ask) {
    headers.set(wire::STEP, &*ask.step);
    headers.set(wire::PHASE, ask.phase.as_str());
    headers.set(wire::GROUP, ask.group.to_string());
    headers.set(wire::ITERATION, ask.iteration.to_string());
    headers.set(wire::ROUND, ask.round.to_string());
    headers.set(wire::ATTEMPT, ask.attempt.to_string());
    headers.set(wire::EFFECT, ask.effect.to_string());
}

fn set_fact(new: &mut NewEvent, identity: &Identity, fact: &Fact) {
    let headers = &mut new.headers;
    new.payload = match fact {
        Fact::Started { input, deadline, .. } => {
            set_time(headers, header::DEADLINE, *deadline);
            input.clone()
        }
        Fact::StepRequested(request) | Fact::UndoRequested(request) => return set_request(new, identity, request),
        Fact::StepDone { reply: json, .. } | Fact::StepRejected { rejection: json, .. } => json.clone(),
        Fact::StepWaiting { until, .. } => {
            set_time(headers, header::DUE, *until);
            Bytes::from_static(b"{}")
        }
        Fact::UndoDone { .. } => Bytes::from_static(b"{}"),
        Fact::StepTimedOut { error, then, .. } => {
            let then = match then {
                Doubt::Ask(next) => {
                    set_time(headers, header::NEXT, Some(*next));
                    "ask"
                }
                Doubt::Undo => "undo",
                Doubt::Park => "park",
            };
            note(&Note {
                error: error.clone(),
                then: Some(then.to_owned()),
                ..Note::default()
            })
        }
        Fact::StepSkipped { by: None, .. } => note(&Note {
            reason: Some("its condition is false".to_owned()),
            ..Note::default()
        }),
        Fact::StepSkipped {
            by: Some((by, reply)), ..
        } => note(&Note::by(by).with_reply(reply)),
        Fact::UndoFailed { error, next, .. } => {
            set_time(headers, header::NEXT, *next);
            note(&Note {
                error: Some(error.clone()),
                ..Note::default()
            })
        }
        Fact::CancelRequested { by, pending } => note(&Note {
            pending: *pending,
            ..Note::by(by)
        }),
        Fact::DeadlinePassed { pending } => note(&Note {
            pending: *pending,
            ..Note::default()
        }),
        Fact::UndoSkipped { by, .. } | Fact::Resumed { by } => note(&Note::by(by)),
        Fact::Parked(parked) => json(&serde_json::json!({ "kind": parked.reason, "reason": parked.text })),
        Fact::Completed { last, finish } => {
            let end = Note::end(finish);
            note(&match last {
                Some((_, reply)) => end.with_reply(reply),
                None => end,
            })
        }
        Fact::Compensated(finish) => note(&Note::end(finish)),
        Fact::Aux { .. } => {
            headers.set(header::AUX, "1");
            Bytes::from_static(b"{}")
        }
    };
}

/// A request is the one event that leaves the log: its headers and its payload are what travels.
fn set_request(new: &mut NewEvent, identity: &Identity, request: &Request) {
    let content = &request.content;
    let headers = &mut new.headers;
    headers.set(wire::PHASE, request.travels_as.as_str());
    headers.set(wire::REPLY_TO, &*request.reply_to);
    headers.set(name::TYPE, &*content.command);
    headers.set(name::CONTENT_TYPE, "application/json");
    headers.set(name::EXPIRY, request.expires.to_string());
    headers.set(name::MANDATORY, "1");
    headers.set(name::DATA_SCHEMA, content.version.to_string());
    headers.set(header::POLICY, &*request.policy);
    set_time(headers, header::DUE, Some(request.due));
    if let Some(key) = &content.key {
        headers.set(header::COMMAND_KEY, &**key);
    }
    new.schema = content.version;
    new.topic = Some(wire::command_topic(&content.command).into());
    new.key = Some(content.key.clone().unwrap_or_else(|| identity.key.to_string()));
    new.payload = content.payload.clone();
}

fn set_time(headers: &mut Headers, header: &'static str, time: Option<Timestamp>) {
    if let Some(time) = time {
        headers.set(header, time.to_string());
    }
}

fn note(note: &Note<'_>) -> Bytes {
    json(note)
}

fn json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value)
        .expect("invariant: a struct of strings can be written as JSON")
        .into()
}

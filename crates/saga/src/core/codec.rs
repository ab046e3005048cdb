//! How a saga's event is stored, and read again.

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use sagamill_bus::{Headers, MessageId, headers::name};
use sagamill_eventstore::{NewEvent, Recorded};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Ask, By, Content, Decided, Doubt, Fact, Finish, Identity, ParkReason, Parked, Phase, Request, SagaEvent};
use crate::wire;

/// Counts up with each change of the vocabulary that an older library would fold wrongly.
pub const CORE_REV: u32 = 1;

/// Headers that are stored with a saga's events and mean nothing to a participant.
pub mod header {
    /// [`CORE_REV`](super::CORE_REV) of the library that wrote the event.
    pub const CORE: &str = "sagamill-core";
    /// The hash of the saga's memory after the event, 16 hexadecimal digits.
    pub const HASH: &str = "sagamill-hash";
    /// The process that decided, and its incarnation.
    pub const PROCESS: &str = "sagamill-process";
    /// When it was decided, RFC 3339.
    pub const TIME: &str = "sagamill-time";
    /// The definition's digest, 16 hexadecimal digits; on `saga.started`.
    pub const DIGEST: &str = "sagamill-digest";
    /// The saga's deadline, RFC 3339; on `saga.started`.
    pub const DEADLINE: &str = "sagamill-deadline";
    /// When an answer is late, RFC 3339; on requests and waits.
    pub const DUE: &str = "sagamill-due";
    /// When the next try is due, RFC 3339; on `saga.step-timed-out` and `saga.undo-failed`.
    pub const NEXT: &str = "sagamill-next";
    /// The local steps and undos that the event makes the next to run, JSON.
    pub const BEGUN: &str = "sagamill-begun";
    /// The message key, where the command has its own.
    pub const COMMAND_KEY: &str = "sagamill-command-key";
    /// The policy in force.
    pub const POLICY: &str = "sagamill-policy";
}

/// Why an event cannot be read as one of a saga.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A newer library wrote it: hand the saga back, another process may know it.
    #[error("event `{name}` is of revision {rev}, newer than {CORE_REV}: this process is too old for it")]
    Newer {
        /// The event's type.
        name: String,
        /// Its revision.
        rev: u32,
    },
    /// It is no event of a saga.
    #[error("`{0}` is not an event of a saga")]
    Unknown(String),
    /// A header is missing or cannot be read.
    #[error("event `{name}` has no readable header `{header}`")]
    Header {
        /// The event's type.
        name: String,
        /// The header.
        header: &'static str,
    },
    /// The payload is not what the event's type says.
    #[error("event `{name}` has another content than its type says")]
    Payload {
        /// The event's type.
        name: String,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
}

/// A stored event of a saga, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which saga.
    pub identity: Identity,
    /// The process that decided, and its incarnation.
    pub process: Option<String>,
    /// The event.
    pub event: SagaEvent,
}

impl SagaEvent {
    /// Reads a stored event.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(recorded: &Recorded) -> Result<Entry, DecodeError> {
        let read = Reader {
            name: &recorded.name,
            headers: &recorded.headers,
            payload: &recorded.event,
        };
        let rev = read.number(header::CORE)?;
        if rev > CORE_REV {
            return Err(DecodeError::Newer {
                name: recorded.name.clone(),
                rev,
            });
        }
        let begun = match recorded.headers.get(header::BEGUN) {
            Some(json) => read_begun(json).ok_or_else(|| read.missing(header::BEGUN))?,
            None => Vec::new(),
        };
        let event = Self {
            at: read.time(header::TIME)?,
            hash: read.hex(header::HASH)?,
            begun,
            fact: read.fact()?,
        };
        let process = recorded.headers.get(header::PROCESS).map(str::to_owned);
        Ok(Entry {
            identity: Identity::from_headers(&recorded.name, &recorded.headers)?,
            process,
            event,
        })
    }
}

impl Identity {
    /// Reads which saga from the headers of one of its messages.
    ///
    /// # Errors
    /// [`DecodeError::Header`]: one is missing or cannot be read.
    pub fn from_headers(name: &str, headers: &Headers) -> Result<Self, DecodeError> {
        let read = Reader {
            name,
            headers,
            payload: &Bytes::new(),
        };
        Ok(Self {
            instance: read.uuid(wire::SAGA)?,
            definition: read.text(wire::DEFINITION)?.into(),
            version: read.number(wire::DEFINITION_VERSION)?,
            key: read.text(wire::KEY)?.into(),
        })
    }
}

impl Ask {
    /// Reads which ask a reply answers from what it echoes.
    ///
    /// # Errors
    /// [`DecodeError::Header`]: one is missing or cannot be read.
    pub fn from_headers(name: &str, headers: &Headers) -> Result<Self, DecodeError> {
        let read = Reader {
            name,
            headers,
            payload: &Bytes::new(),
        };
        let phase = match read.text(wire::PHASE)? {
            wire::FORWARD => Phase::Forward,
            wire::COMPENSATE => Phase::Compensate,
            _ => return Err(read.missing(wire::PHASE)),
        };
        read.ask(phase)
    }
}

/// Reads the parts of one event.
struct Reader<'a> {
    name: &'a str,
    headers: &'a Headers,
    payload: &'a Bytes,
}

impl<'a> Reader<'a> {
    fn missing(&self, header: &'static str) -> DecodeError {
        DecodeError::Header {
            name: self.name.to_owned(),
            header,
        }
    }
    fn text(&self, header: &'static str) -> Result<&'a str, DecodeError> {
        self.headers.get(header).ok_or_else(|| self.missing(header))
    }
    fn read<T: std::str::FromStr>(&self, header: &'static str) -> Result<T, DecodeError> {
        self.text(header)?.parse().map_err(|_| self.missing(header))
    }
    fn number(&self, header: &'static str) -> Result<u32, DecodeError> {
        self.read(header)
    }
    fn uuid(&self, header: &'static str) -> Result<Uuid, DecodeError> {
        self.read(header)
    }
    fn time(&self, header: &'static str) -> Result<Timestamp, DecodeError> {
        self.read(header)
    }
    fn some_time(&self, header: &'static str) -> Result<Option<Timestamp>, DecodeError> {
        self.headers.get(header).map(|_| self.time(header)).transpose()
    }
    fn hex(&self, header: &'static str) -> Result<Option<u64>, DecodeError> {
        let hex = self.headers.get(header);
        hex.map(|hex| u64::from_str_radix(hex, 16).map_err(|_| self.missing(header)))
            .transpose()
    }
    fn ask(&self, phase: Phase) -> Result<Ask, DecodeError> {
        Ok(Ask {
            step: self.text(wire::STEP)?.into(),
            phase,
            group: self.number(wire::GROUP)?,
            iteration: self.number(wire::ITERATION)?,
            round: self.number(wire::ROUND)?,
            attempt: self.number(wire::ATTEMPT)?,
            effect: self.uuid(wire::EFFECT)?,
        })
    }
    fn json<T: Deserialize<'a>>(&self) -> Result<T, DecodeError> {
        serde_json::from_slice(self.payload).map_err(|source| DecodeError::Payload {
            name: self.name.to_owned(),
            source,
        })
    }
    fn raw(&self, json: Option<&'a RawValue>) -> Bytes {
        json.map_or(Bytes::from_static(b"null"), |json| {
            self.payload.slice_ref(json.get().as_bytes())
        })
    }
    fn request(&self, phase: Phase) -> Result<Request, DecodeError> {
        let content = Content {
            command: self.text(name::TYPE)?.into(),
            version: self.read(name::DATA_SCHEMA)?,
            key: self.headers.get(header::COMMAND_KEY).map(str::to_owned),
            payload: self.payload.clone(),
        };
        Ok(Request {
            ask: self.ask(phase)?,
            content,
            travels_as: if self.text(wire::PHASE)? == wire::FORWARD {
                Phase::Forward
            } else {
                Phase::Compensate
            },
            reply_to: self.text(wire::REPLY_TO)?.to_owned(),
            due: self.time(header::DUE)?,
            expires: self.time(name::EXPIRY)?,
            policy: self.text(header::POLICY)?.to_owned(),
        })
    }
    fn fact(&self) -> Result<Fact, DecodeError> {
        let forward = || self.ask(Phase::Forward);
        let undo = || self.ask(Phase::Compensate);
        Ok(match self.name {
            "saga.started" => Fact::Started {
                instance: self.uuid(wire::SAGA)?,
                input: self.payload.clone(),
                digest: self.hex(header::DIGEST)?.ok_or_else(|| self.missing(header::DIGEST))?,
                deadline: self.some_time(header::DEADLINE)?,
            },
            "saga.step-requested" => Fact::StepRequested(self.request(Phase::Forward)?),
            "saga.step-waiting" => Fact::StepWaiting {
                ask: forward()?,
                until: self.some_time(header::DUE)?,
            },
            "saga.step-done" => Fact::StepDone {
                ask: forward()?,
                reply: self.payload.clone(),
            },
            "saga.step-rejected" => Fact::StepRejected {
                ask: forward()?,
                rejection: self.payload.clone(),
            },
            "saga.step-timed-out" => self.timed_out(forward()?)?,
            "saga.step-skipped" => {
                let note: Note<'_> = self.json()?;
                let reply = self.raw(note.reply);
                Fact::StepSkipped {
                    ask: forward()?,
                    by: note.actor.is_some().then(|| (note.into_by(), reply)),
                }
            }
            "saga.undo-requested" => Fact::UndoRequested(self.request(Phase::Compensate)?),
            "saga.undo-done" => Fact::UndoDone { ask: undo()? },
            "saga.undo-failed" => Fact::UndoFailed {
                ask: undo()?,
                error: self.json::<Note<'_>>()?.error.unwrap_or_default(),
                next: self.some_time(header::NEXT)?,
            },
            "saga.undo-skipped" => Fact::UndoSkipped {
                ask: undo()?,
                by: self.json::<Note<'_>>()?.into_by(),
            },
            "saga.cancel-requested" => {
                let note: Note<'_> = self.json()?;
                Fact::CancelRequested {
                    pending: note.pending,
                    by: note.into_by(),
                }
            }
            "saga.deadline-passed" => Fact::DeadlinePassed {
                pending: self.json::<Note<'_>>()?.pending,
            },
            "saga.parked" => self.parked()?,
            "saga.resumed" => Fact::Resumed {
                by: self.json::<Note<'_>>()?.into_by(),
            },
            "saga.completed" => {
                let note: Note<'_> = self.json()?;
                let reply = self.raw(note.reply);
                let last = self
                    .headers
                    .get(wire::STEP)
                    .map(|_| Ok((forward()?, reply)))
                    .transpose()?;
                Fact::Completed {
                    last,
                    finish: note.into_finish(),
                }
            }
            "saga.compensated" => Fact::Compensated(self.json::<Note<'_>>()?.into_finish()),
            other => return Err(DecodeError::Unknown(other.to_owned())),
        })
    }
    fn timed_out(&self, ask: Ask) -> Result<Fact, DecodeError> {
        let note: Note<'_> = self.json()?;
        let then = match note.then.as_deref() {
            Some("undo") => Doubt::Undo,
            Some("park") => Doubt::Park,
            _ => Doubt::Ask(self.time(header::NEXT)?),
        };
        Ok(Fact::StepTimedOut {
            ask,
            error: note.error,
            then,
        })
    }
    fn parked(&self) -> Result<Fact, DecodeError> {
        #[derive(Deserialize)]
        struct Content {
            kind: ParkReason,
            reason: String,
        }
        let content: Content = self.json()?;
        let phase = match self.headers.get(wire::PHASE) {
            Some(wire::COMPENSATE) => Phase::Compensate,
            _ => Phase::Forward,
        };
        let ask = self.headers.get(wire::STEP).map(|_| self.ask(phase)).transpose()?;
        Ok(Fact::Parked(Parked {
            ask,
            reason: content.kind,
            text: content.reason,
        }))
    }
}

/// The small contents of the events that carry no command and no reply of their own.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Note<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    then: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pending: bool,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    reply: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_behind: Option<Vec<String>>,
}

impl<'a> Note<'a> {
    fn by(by: &By) -> Self {
        Self {
            actor: Some(by.actor.clone()),
            reason: Some(by.reason.clone()),
            ..Self::default()
        }
    }
    fn end(finish: &Finish) -> Self {
        Self {
            reason: finish.reason.clone(),
            left_behind: Some(finish.left_behind.clone()),
            ..Self::default()
        }
    }
    fn with_reply(mut self, reply: &'a [u8]) -> Self {
        self.reply = serde_json::from_slice(reply).ok();
        self
    }
    fn into_by(self) -> By {
        By {
            actor: self.actor.unwrap_or_default(),
            reason: self.reason.unwrap_or_default(),
        }
    }
    fn into_finish(self) -> Finish {
        Finish {
            reason: self.reason,
            left_behind: self.left_behind.unwrap_or_default(),
        }
    }
}

pub(super) fn encode(identity: &Identity, decided: &Decided, process: &str) -> NewEvent {
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
        Fact::Started {
            input,
            digest,
            deadline,
            ..
        } => {
            headers.set(header::DIGEST, format!("{digest:016x}"));
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

type BegunRow<'a> = (Cow<'a, str>, Phase, u32, u32, u32, u32, Uuid);

fn write_begun(begun: &[Ask]) -> String {
    let row = |ask: &Ask| -> BegunRow<'static> {
        (
            ask.step.to_string().into(),
            ask.phase,
            ask.group,
            ask.iteration,
            ask.round,
            ask.attempt,
            ask.effect,
        )
    };
    let rows: Vec<_> = begun.iter().map(row).collect();
    serde_json::to_string(&rows).expect("invariant: rows of strings and numbers can be written as JSON")
}

fn read_begun(json: &str) -> Option<Vec<Ask>> {
    let rows: Vec<BegunRow<'_>> = serde_json::from_str(json).ok()?;
    let ask = |(step, phase, group, iteration, round, attempt, effect): BegunRow<'_>| Ask {
        step: step.into(),
        phase,
        group,
        iteration,
        round,
        attempt,
        effect,
    };
    Some(rows.into_iter().map(ask).collect())
}

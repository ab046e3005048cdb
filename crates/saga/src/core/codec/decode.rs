//! Reads stored events.

use bytes::Bytes;
use jiff::Timestamp;
use sagamill_bus::{Headers, headers::name};
use sagamill_eventstore::Recorded;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{CORE_REV, DecodeError, Entry, Note, header, read_begun};
use crate::{
    core::{Ask, Content, Doubt, Fact, Identity, ParkReason, Parked, Phase, Request, SagaEvent},
    wire,
};

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
        let is_aux = recorded.headers.get(header::AUX) == Some("1");
        if rev > CORE_REV && !is_aux {
            return Err(DecodeError::Newer {
                name: recorded.name.clone(),
                rev,
            });
        }
        let event = match read.event() {
            // Also one whose name is known and whose content is not: it is the newer library's.
            Err(_) if is_aux => read.passed_over()?,
            Ok(_) if is_aux && rev > CORE_REV => read.passed_over()?,
            event => event?,
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

/// The digest of the definition that an event's saga was started by.
pub(crate) fn digest_of(headers: &Headers) -> Option<u64> {
    u64::from_str_radix(headers.get(header::DIGEST)?, 16).ok()
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
    fn event(&self) -> Result<SagaEvent, DecodeError> {
        let begun = match self.headers.get(header::BEGUN) {
            Some(json) => read_begun(json).ok_or_else(|| self.missing(header::BEGUN))?,
            None => Vec::new(),
        };
        Ok(SagaEvent {
            at: self.time(header::TIME)?,
            hash: self.hex(header::HASH)?,
            begun,
            fact: self.fact()?,
        })
    }
    fn passed_over(&self) -> Result<SagaEvent, DecodeError> {
        let name = self.name.to_owned();
        Ok(SagaEvent {
            at: self.time(header::TIME)?,
            hash: None,
            begun: Vec::new(),
            fact: Fact::Aux { name },
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

//! What is stored: events, where they stand, and what is expected of a stream.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use sagamill_bus::{Headers, Topic};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The place in the log: dense from 1, in commit order. 0 stands before the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub i64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place in one stream: dense from 1. 0 stands for a stream that has no event yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub i64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `order-42`: a category and a key. What stands before the first dash is the category.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(String);

impl StreamId {
    /// What stands before the first dash; all of it where there is none.
    pub fn category(&self) -> &str {
        self.0.split_once('-').map_or(&self.0, |(category, _)| category)
    }
    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl From<&str> for StreamId {
    fn from(id: &str) -> Self {
        Self(id.to_owned())
    }
}
impl From<String> for StreamId {
    fn from(id: String) -> Self {
        Self(id)
    }
}
impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the stream must be for the append to go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Anything.
    Any,
    /// It has no event yet.
    NoStream,
    /// It has an event.
    Exists,
    /// Its last event has this version.
    Exact(Version),
}

/// An event that is not stored yet, for those who need more than the typed event itself. Limits (checked at append):
/// stream, name, topic and key at most 255 bytes and no NUL, payload at most 1 MiB, headers at most 1 MiB in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its name for ever; an append of the same ids again is a repeat. Also the id of the message that is published.
    pub id: Uuid,
    /// Its type: `order.placed`.
    pub name: String,
    /// The schema version of its payload, from 1.
    pub schema: u16,
    /// Where the relay publishes it; none: it stays inside the log.
    pub topic: Option<Topic>,
    /// The message key; none: the stream's id.
    pub key: Option<String>,
    /// What it belongs to, over all causes and effects.
    pub correlation: Option<Uuid>,
    /// The event or message that caused it.
    pub causation: Option<Uuid>,
    /// Travels with it: trace context, the saga's attributes, the user's own. A header of a CloudEvents attribute's name
    /// (`ce-type`) goes before what the relay would have set.
    pub headers: Headers,
    /// Its content, published as it is.
    pub payload: Bytes,
}

impl NewEvent {
    /// An internal event (no topic) with a new id.
    pub fn new(name: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            id: Uuid::now_v7(),
            name: name.into(),
            schema: 1,
            topic: None,
            key: None,
            correlation: None,
            causation: None,
            headers: Headers::new(),
            payload: payload.into(),
        }
    }
    /// Encodes a typed event: its name, version, topic and key are the type's.
    ///
    /// # Errors
    /// [`Error::Codec`](crate::Error::Codec) where serde cannot write it.
    pub fn of<E: sagamill_bus::Event>(event: &E) -> crate::Result<Self> {
        let (name, payload) = sagamill_bus::codec::encode(event).map_err(|e| crate::Error::Codec {
            name: E::NAME.to_owned(),
            source: std::sync::Arc::new(e),
        })?;
        let key = event.key().map(|key| key.0.into_owned());
        Ok(Self {
            schema: E::VERSION,
            topic: E::topic(),
            key,
            ..Self::new(name, payload)
        })
    }
    /// As it is stored.
    pub(crate) fn recorded(self, stream: StreamId, position: Position, version: Version, at: Timestamp) -> Recorded {
        let Self {
            id,
            name,
            schema,
            topic,
            key,
            correlation,
            causation,
            headers,
            payload,
        } = self;
        Recorded {
            position,
            stream,
            version,
            at,
            id,
            name,
            schema,
            topic,
            key,
            correlation,
            causation,
            headers,
            event: payload,
        }
    }
    /// Its headers as databases keep them; none: it has none.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn meta(&self) -> Option<Vec<u8>> {
        let json = || serde_json::to_vec(&self.headers).expect("invariant: a map of strings is JSON");
        (!self.headers.is_empty()).then(json)
    }
}

/// A stored event.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded<E = Bytes> {
    /// Its place in the log.
    pub position: Position,
    /// Its stream.
    pub stream: StreamId,
    /// Its place in the stream.
    pub version: Version,
    /// When it was appended, by the log's clock; never earlier than the event before it.
    pub at: Timestamp,
    /// Its name for ever.
    pub id: Uuid,
    /// Its type.
    pub name: String,
    /// The schema version of its payload.
    pub schema: u16,
    /// Where the relay publishes it.
    pub topic: Option<Topic>,
    /// The message key; none: the stream's id.
    pub key: Option<String>,
    /// What it belongs to.
    pub correlation: Option<Uuid>,
    /// What caused it.
    pub causation: Option<Uuid>,
    /// What travels with it.
    pub headers: Headers,
    /// Its content: bytes, or the typed event.
    pub event: E,
}

/// Events for one stream.
#[derive(Debug, Clone)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// What it must be.
    pub expected: Expected,
    /// At least one.
    pub events: Vec<NewEvent>,
}

/// Appends that are stored all or not at all, together with what they depend on.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// A stream at most once.
    pub appends: Vec<Append>,
    /// Refused if one of these streams has an event after this position.
    pub guards: Vec<Guard>,
    /// Moves a checkpoint in the same commit, if the lease still holds.
    pub tracking: Option<Tracking>,
}

impl From<Append> for Batch {
    fn from(append: Append) -> Self {
        Self {
            appends: vec![append],
            ..Self::default()
        }
    }
}

/// Refuses a batch if the stream went on after what the caller had seen.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The stream.
    pub stream: StreamId,
    /// What the caller had seen.
    pub after: Position,
}

/// A checkpoint that moves with the batch.
#[derive(Debug, Clone)]
pub struct Tracking {
    /// Whose checkpoint, and by which lease.
    pub lease: crate::Lease,
    /// Where to.
    pub to: Anchor,
}

/// A place in a log that is known by the event that stands there: a log that lost its tail is told by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Anchor {
    /// The position; 0 stands before the first event.
    pub position: Position,
    /// The event there; none at 0.
    pub event: Option<Uuid>,
}

/// What an append says once it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Where its first event stands.
    pub first: Position,
    /// Where its last event stands.
    pub last: Position,
    /// The stream's version after it.
    pub version: Version,
    /// It had been stored before, under the same ids: this is the first receipt again.
    pub repeated: bool,
}

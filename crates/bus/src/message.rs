//! What travels: a message, its names, and the typed event.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Headers, MessageId, Result, Topic, headers::name};

/// Messages of one key are handled in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Cow<'static, str>);

impl<T: ToString> From<T> for Key {
    fn from(key: T) -> Self {
        Self(Cow::Owned(key.to_string()))
    }
}

/// What every transport carries; checked before a message is published.
pub mod limit {
    /// The most bytes of a payload: 1 MiB.
    pub const PAYLOAD: usize = 1 << 20;
    /// The most bytes of a key.
    pub const KEY: usize = 255;
    /// The most headers of one message, beside its `traceparent`.
    pub const HEADERS: usize = 64;
    /// The most bytes of one header, its name and its value together: 8 KiB and a name of 255.
    pub const HEADER: usize = (8 << 10) + 255;
}

/// One message, in memory whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its name for ever: derived where a decision made it, else a new v7.
    pub id: MessageId,
    /// Ordering and partitioning; none: no order is asked for.
    pub key: Option<Key>,
    /// CloudEvents attributes, trace context, and the user's own.
    pub headers: Headers,
    /// The content, never copied on its way.
    pub payload: Bytes,
}

impl Message {
    /// A message with a new id (UUID v7) and nothing but a payload.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            id: MessageId::random(),
            key: None,
            headers: Headers::default(),
            payload: payload.into(),
        }
    }
    /// A message whose payload is `body` as JSON.
    ///
    /// # Errors
    /// [`Error::Codec`] where serde cannot write it.
    pub fn json<T: Serialize + ?Sized>(body: &T) -> Result<Self> {
        let payload = serde_json::to_vec(body).map_err(|e| Error::Codec(e.into()))?;
        Ok(Self::new(payload).header(name::CONTENT_TYPE, "application/json"))
    }
    /// Gives it an id of one's own, say one derived from its cause.
    #[must_use]
    pub fn id(self, id: MessageId) -> Self {
        Self { id, ..self }
    }
    /// Sets the key.
    #[must_use]
    pub fn key(self, key: impl Into<Key>) -> Self {
        Self {
            key: Some(key.into()),
            ..self
        }
    }
    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.headers.set(name, value);
        self
    }
    /// For authors of transports: how often it was put back from the dead letters.
    #[must_use]
    pub fn generation(&self) -> u32 {
        let generation = self.headers.get(name::GENERATION).and_then(|text| text.parse().ok());
        generation.unwrap_or_default()
    }
    /// For authors of transports: it is put back once more, as a delivery of its own; where it was edited, with another payload.
    pub fn revive(&mut self, edited: Option<Bytes>) {
        let next = self.generation().saturating_add(1);
        self.headers.set(name::GENERATION, next.to_string());
        if let Some(payload) = edited {
            self.payload = payload;
        }
    }
    /// Whether every transport carries it.
    pub(crate) fn check(&self) -> Result<()> {
        let fits = |part, size, max| {
            if size > max {
                Err(Error::TooLarge { part, size, max })
            } else {
                Ok(())
            }
        };
        fits("payload", self.payload.len(), limit::PAYLOAD)?;
        fits("key", self.key.as_ref().map_or(0, |key| key.0.len()), limit::KEY)?;
        // The trace is added here, so it takes no room of the caller's.
        let own = self
            .headers
            .iter()
            .filter(|(name, _)| *name != name::TRACEPARENT)
            .count();
        fits("number of headers", own, limit::HEADERS)?;
        self.headers
            .iter()
            .try_for_each(|(name, value)| fits("header", name.len() + value.len(), limit::HEADER))
    }
}

/// Something that happened.
///
/// A struct is one type of event, named [`NAME`](Event::NAME), say `order.placed`. An enum is a family: its `NAME` is the
/// first part (`order`), serde's name of the variant the second (`placed`, with `#[serde(rename_all = "kebab-case")]`).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not an event",
    note = "name it: `impl Event for {Self} {{ const NAME: &'static str = \"order.placed\"; }}`",
    note = "in a handler given to `.on`, the event is the last argument and stands bare, without `Json`"
)]
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// `order.placed` for a struct, `order` for a family.
    const NAME: &'static str;
    /// The schema version of its content, from 1.
    const VERSION: u16 = 1;

    /// Events of one key stay in order. None: no order is asked for on the bus; in a log the stream's id is the key.
    fn key(&self) -> Option<Key> {
        None
    }
    /// The first part of the name: all events of one kind of thing share a topic, hence an order. None: the event stays
    /// inside the log and is never published.
    fn topic() -> Option<Topic> {
        Some(Topic::from(
            Self::NAME.split_once('.').map_or(Self::NAME, |(first, _)| first),
        ))
    }
}

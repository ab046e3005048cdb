//! The attributes of a message: CloudEvents, trace context, Sagamill's own, and the user's.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names of the headers that Sagamill reads or writes itself.
///
/// In memory and in the log they are as here; each broker's transport maps `ce-` to that broker's CloudEvents binding.
pub mod name {
    /// CloudEvents `id`: the message id.
    pub const ID: &str = "ce-id";
    /// CloudEvents `type`: an event's or a command's `NAME`.
    pub const TYPE: &str = "ce-type";
    /// CloudEvents `source`: which log or service it comes from.
    pub const SOURCE: &str = "ce-source";
    /// CloudEvents `subject`: the stream it belongs to.
    pub const SUBJECT: &str = "ce-subject";
    /// CloudEvents `time`, RFC 3339: when it was recorded.
    pub const TIME: &str = "ce-time";
    /// CloudEvents `dataschema`: the schema version of the payload, a number from 1.
    pub const DATA_SCHEMA: &str = "ce-dataschema";
    /// The media type of the payload.
    pub const CONTENT_TYPE: &str = "content-type";
    /// What this message belongs to, over all its causes and effects.
    pub const CORRELATION: &str = "ce-correlationid";
    /// The message that caused this one.
    pub const CAUSATION: &str = "ce-causationid";
    /// Refused without effect when it is handled later than this, RFC 3339.
    pub const EXPIRY: &str = "ce-expirytime";
    /// Position in the log it was relayed from, and version in its stream: `position.version`.
    pub const SEQUENCE: &str = "sagamill-seq";
    /// The log it was relayed from.
    pub const LOG: &str = "sagamill-log";
    /// Set to `1` where a publish that reaches no subscriber must fail and be tried again: commands and replies.
    pub const MANDATORY: &str = "sagamill-mandatory";
    /// On a command whose answer is awaited: the topic for it.
    pub const REPLY_TO: &str = "sagamill-reply-to";
    /// On the answer to a command: `done`, `rejected`, or `failed` where it was given up.
    pub const OUTCOME: &str = "sagamill-outcome";
    /// On a message that is delayed: when it is published, RFC 3339.
    pub const DUE: &str = "sagamill-due";
    /// The topic that it is published to then.
    pub const DUE_TOPIC: &str = "sagamill-due-topic";
    /// Its [`MANDATORY`] then.
    pub const DUE_MANDATORY: &str = "sagamill-due-mandatory";
    /// How often it was put back from the dead letters; part of the delivery id.
    pub const GENERATION: &str = "sagamill-generation";
    /// On a message that a router published to a topic of dead letters: why it was given up.
    pub const DEAD_REASON: &str = "sagamill-dead-reason";
    /// The topic it was on.
    pub const DEAD_TOPIC: &str = "sagamill-dead-topic";
    /// The group that gave it up.
    pub const DEAD_GROUP: &str = "sagamill-dead-group";
    /// How many attempts were made.
    pub const DEAD_ATTEMPTS: &str = "sagamill-dead-attempts";
    /// W3C trace context.
    pub const TRACEPARENT: &str = "traceparent";
}

/// CloudEvents attributes, `traceparent`, and the user's own. Names are unique; setting one again replaces it.
///
/// Clones share what they hold until one of them is changed. None at all hold nothing: most events of a log have none.
#[derive(Debug, Clone, Default)]
pub struct Headers(Option<Arc<Vec<Header>>>);

/// Sorted by name: a message has few headers, and a vector of them is smaller than one node of a tree.
type Header = (Cow<'static, str>, String);

impl Headers {
    /// No headers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// The value of a header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).ok().map(|index| self.all()[index].1.as_str())
    }
    /// Sets a header, in place of one of the same name.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        let place = self.find(&name);
        let headers = self.all_mut();
        match place {
            Ok(index) => headers[index].1 = value,
            Err(index) => headers.insert(index, (name, value)),
        }
    }
    /// Takes a header out.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        // Looked for first, so that nothing is copied for a header that is not there.
        let index = self.find(name).ok()?;
        Some(self.all_mut().remove(index).1)
    }
    /// All headers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all().iter().map(|(name, value)| (name.as_ref(), value.as_str()))
    }
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all().len()
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.all().binary_search_by(|(other, _)| other.as_ref().cmp(name))
    }
    fn all(&self) -> &[Header] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
    fn all_mut(&mut self) -> &mut Vec<Header> {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.all() == other.all()
    }
}
impl Eq for Headers {}

impl<N: Into<Cow<'static, str>>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let mut all = Self::default();
        headers.into_iter().for_each(|(name, value)| all.set(name, value));
        all
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::<String, String>::deserialize(deserializer).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::Headers;

    #[test]
    fn names_are_unique_and_clones_do_not_see_each_others_changes() {
        let mut headers = Headers::from_iter([("b", "1"), ("a", "2"), ("b", "3")]);
        let before = headers.clone();
        headers.set("c", "4");
        assert_eq!(headers.remove("a"), Some("2".into()));
        assert_eq!(headers.remove("a"), None);
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("b", "3"), ("c", "4")]);
        assert_eq!((before.len(), before.get("a"), before.get("c")), (2, Some("2"), None));
    }

    #[test]
    fn headers_that_were_all_taken_out_are_no_headers() {
        let mut headers = Headers::from_iter([("a", "1")]);
        headers.remove("a");
        assert!(headers.is_empty());
        assert_eq!(headers, Headers::new());
    }

    #[test]
    fn they_are_a_map_in_json() {
        let headers = Headers::from_iter([("b", "1"), ("a", "größe")]);
        let json = serde_json::to_string(&headers).unwrap();
        assert_eq!(json, r#"{"a":"größe","b":"1"}"#);
        assert_eq!(serde_json::from_str::<Headers>(&json).unwrap(), headers);
    }
}

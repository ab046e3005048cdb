//! A message as NATS carries it: CloudEvents' binding, with what NATS would lose or obey written in another way.
//!
//! Attributes keep their names (`ce-id`), `content-type` is `Content-Type`. The id, the topic and the generation are the
//! `Nats-Msg-Id`, by which the server drops what it has already; the key is `sagamill-key`. Values are percent-encoded where
//! CloudEvents says so, or where NATS would lose a part of them. A header whose name NATS cannot carry, or would obey (all
//! that begin with `Nats-`), is named by the digits of its bytes. JetStream stores at most 64 KiB of headers: where they are
//! near that, all but these marks stand as JSON before the payload, and `sagamill-headers` says how long that is.
//!
//! In Watermill's form there are the same marks and its id, and all other headers have their own names and values, or are
//! refused.

use std::fmt::Write;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use uuid::Uuid;

use crate::{
    Headers, Key, Message, MessageId, Result, Topic,
    dead_letter::Death,
    headers::name,
    transport::{
        digits,
        lanes::{tell, told},
        watermill,
    },
};

/// What the server tells repeats by.
pub(super) const DELIVERY_ID: &str = "Nats-Msg-Id";
const KEY: &str = "sagamill-key";
/// How a message was given up, oldest first: on dead letters, and on what was requeued.
const STORY: &str = "sagamill-story";
/// How many bytes of the payload are headers.
const INLINE: &str = "sagamill-headers";
/// The names above, which are no user's.
const OWN: [&str; 3] = [KEY, STORY, INLINE];
const CONTENT_TYPE: &str = "Content-Type";
/// Headers of more bytes do not travel as such: JetStream takes 64 KiB.
const WIRE_MAX: usize = 56 << 10;
/// Most bytes of a story, which travels as a header in any case.
const STORY_BYTES_MAX: usize = 24 << 10;
const CLOUD_EVENTS: &str = "ce-";
/// The key of a message that another CloudEvents producer sent.
const PARTITION_KEY: &str = "ce-partitionkey";

/// What tells two deliveries apart for the server: a message on its topic, once for each time it is requeued.
pub(super) fn delivery_id(message: &Message, topic: &Topic) -> String {
    let generation = message.headers.get(name::GENERATION).unwrap_or("0");
    format!("{}:{topic}:{generation}", message.id)
}

/// The headers and the payload of a message.
pub(super) fn to_wire(message: &Message, delivery_id: &str, story: &[Death]) -> (HeaderMap, Bytes) {
    let mut wire = marks(message, delivery_id, story);
    for (name, value) in message.headers.iter() {
        let extent = if name.starts_with(CLOUD_EVENTS) {
            Extent::CloudEvents
        } else {
            Extent::Needed
        };
        put(&mut wire, &wire_name(name), &encode(value, extent));
    }
    if wire_size(&wire) <= WIRE_MAX {
        return (wire, message.payload.clone());
    }
    let mut payload = serde_json::to_vec(&message.headers).unwrap_or_default();
    let mut wire = marks(message, delivery_id, story);
    put(&mut wire, INLINE, &payload.len().to_string());
    payload.extend_from_slice(&message.payload);
    (wire, payload.into())
}
/// The headers of a message in Watermill's form.
pub(super) fn to_watermill(message: &Message, delivery_id: &str) -> Result<HeaderMap> {
    let mut wire = marks(message, delivery_id, &[]);
    put(&mut wire, watermill::ID, &watermill::text_of(message));
    for (name, value) in watermill::metadata(&message.headers) {
        let lower = name.to_ascii_lowercase();
        if !is_plain(name) || lower.starts_with("nats-") {
            let problem = "a name on NATS is of ASCII without blanks and colons, and does not begin with `Nats-`";
            return Err(watermill::invalid(name, problem));
        }
        if OWN.contains(&name) {
            return Err(watermill::invalid(
                name,
                "the name means something to this transport: rename the header",
            ));
        }
        if value.trim() != value || value.contains(char::is_control) {
            let problem = "NATS loses blanks at both ends of a value, and has no place for control characters";
            return Err(watermill::invalid(name, problem));
        }
        put(&mut wire, name, value);
    }
    watermill::check_size(wire_size(&wire), WIRE_MAX)?;
    Ok(wire)
}

/// What is told of a message beside its headers.
fn marks(message: &Message, delivery_id: &str, story: &[Death]) -> HeaderMap {
    let mut wire = HeaderMap::new();
    put(&mut wire, DELIVERY_ID, &encode(delivery_id, Extent::Needed));
    if let Some(key) = &message.key {
        put(&mut wire, KEY, &encode(&key.0, Extent::Needed));
    }
    if !story.is_empty() {
        put(
            &mut wire,
            STORY,
            &tell(story, STORY_BYTES_MAX, |json| encode(&json, Extent::Needed)),
        );
    }
    wire
}

/// What arrived, and how it was given up before. A message that nobody gave an id is named by where it lies.
pub(super) fn from_wire(wire: &HeaderMap, payload: Bytes, place: impl FnOnce() -> String) -> (Message, Vec<Death>) {
    let own = wire.get(DELIVERY_ID).and_then(|id| own_id(id.as_str()));
    let is_watermill = wire.get(watermill::ID).is_some();
    let mut message = Message {
        id: own
            .or_else(|| foreign_id(wire))
            .unwrap_or_else(|| MessageId::derived(Uuid::nil(), &place(), 0)),
        key: None,
        headers: Headers::new(),
        payload,
    };
    let (mut story, mut inline) = (Vec::new(), None);
    for (name, values) in wire.iter() {
        let (name, Some(value)) = (name.to_string(), values.first()) else {
            continue;
        };
        let is_encoded = if is_watermill {
            own.is_some() && OWN.contains(&name.as_str())
        } else {
            // Of others only attributes are known to be.
            own.is_some() || name.starts_with(CLOUD_EVENTS)
        };
        let value = if is_encoded {
            decode(value.as_str())
        } else {
            value.to_string()
        };
        match name.as_str() {
            KEY => message.key = Some(Key(value.into())),
            STORY => story = told(&value),
            INLINE if own.is_some() => inline = value.parse().ok(),
            DELIVERY_ID => (),
            name if is_watermill => message.headers.set(name.to_owned(), value),
            name => message.headers.set(own_name(name), value),
        }
    }
    if let Some(length) = inline.filter(|length| *length <= message.payload.len()) {
        message.headers = serde_json::from_slice(&message.payload.split_to(length)).unwrap_or_default();
    }
    if message.key.is_none() && own.is_none() {
        message.key = message.headers.get(PARTITION_KEY).map(|key| Key(key.to_owned().into()));
    }
    if is_watermill {
        watermill::tidy(&mut message);
    }
    (message, story)
}

/// How many bytes headers take on the wire.
pub(super) fn wire_size(wire: &HeaderMap) -> usize {
    let line = |name: &HeaderName, value: &HeaderValue| {
        AsRef::<[u8]>::as_ref(name).len() + value.as_str().len() + ": \r\n".len()
    };
    let lines = wire
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| line(name, value)));
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}

fn put(wire: &mut HeaderMap, name: &str, value: &str) {
    // Both were made to fit.
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
        wire.insert(name, value);
    }
}

fn own_id(delivery_id: &str) -> Option<MessageId> {
    let (id, rest) = delivery_id.split_once(':')?;
    rest.contains(':').then(|| parse(id)).flatten()
}
fn foreign_id(wire: &HeaderMap) -> Option<MessageId> {
    let watermill = wire.get(watermill::ID).and_then(|id| watermill::id_of(id.as_str()));
    let named = || {
        let names = [name::ID, DELIVERY_ID];
        names.iter().find_map(|name| parse(wire.get(*name)?.as_str()))
    };
    watermill.or_else(named)
}
fn parse(id: &str) -> Option<MessageId> {
    Uuid::try_parse(id).ok().map(MessageId)
}

fn wire_name(name: &str) -> String {
    if name == name::CONTENT_TYPE {
        return CONTENT_TYPE.to_owned();
    }
    let lower = name.to_ascii_lowercase();
    let taken = [CONTENT_TYPE, watermill::ID].contains(&name) || OWN.contains(&name) || name.starts_with(digits::NAMED);
    if is_plain(name) && !taken && !lower.starts_with("nats-") {
        return name.to_owned();
    }
    digits::write(name)
}
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b':')
}
fn own_name(name: &str) -> String {
    if name == CONTENT_TYPE {
        return name::CONTENT_TYPE.to_owned();
    }
    digits::read(name)
}

/// What is encoded of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// What NATS would lose, and `%`.
    Needed,
    /// As the binding of CloudEvents says: also blanks and `"`.
    CloudEvents,
}

fn encode(value: &str, extent: Extent) -> String {
    let mut encoded = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.bytes().enumerate() {
        let lost = !matches!(byte, b' '..=b'~') || byte == b'%';
        let blank = byte == b' ' && (index == 0 || index == last);
        let odd = extent == Extent::CloudEvents && matches!(byte, b' ' | b'"');
        if lost || blank || odd {
            let _ = write!(encoded, "%{byte:02X}");
        } else {
            encoded.push(char::from(byte));
        }
    }
    encoded
}
fn decode(value: &str) -> String {
    let mut parts = value.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| value.to_owned())
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use uuid::Uuid;

    use super::{DELIVERY_ID, delivery_id, from_wire, to_wire};
    use crate::{Key, Message, MessageId, Topic, dead_letter::Death, headers::name};

    fn there_and_back(message: &Message, story: &[Death]) -> (Message, Vec<Death>) {
        let id = delivery_id(message, &Topic::from("orders.eu"));
        let (wire, payload) = to_wire(message, &id, story);
        assert!(super::wire_size(&wire) < 64 << 10);
        from_wire(&wire, payload, || unreachable!("it has an id"))
    }

    #[test]
    fn odd_headers_arrive_as_they_were_sent() {
        let mut message = Message::new("odd").key("größe / 7\n");
        let values = [
            "",
            " ",
            " a b ",
            "größe",
            "🦀",
            "%00%0a",
            "\r\n",
            "\u{7f}\u{80}",
            "%",
            "a=b; c=\"d\"",
        ];
        for (index, value) in values.into_iter().enumerate() {
            message = message
                .header(format!("x-{index}"), value)
                .header(format!("ce-x{index}"), value);
        }
        let names = [
            "",
            "a b",
            "a:b",
            "Nats-Rollup",
            "nats-ttl",
            "sagamill-key",
            "Content-Type",
            "größe",
            "sagamill-name-",
            "_watermill_message_uuid",
        ];
        for name in names {
            message = message.header(name, "user's");
        }
        let message = message.header(name::CONTENT_TYPE, "text/plain");
        assert_eq!(there_and_back(&message, &[]), (message, Vec::new()));
    }

    #[test]
    fn no_header_of_the_users_is_obeyed() {
        let message = Message::new("").header("Nats-Rollup", "all").header("nats-msg-id", "x");
        let (wire, _) = to_wire(&message, "id:topic:0", &[]);
        let orders: Vec<String> = wire
            .iter()
            .map(|(name, _)| name.to_string())
            .filter(|n| n.to_lowercase().starts_with("nats-"))
            .collect();
        assert_eq!(orders, [DELIVERY_ID]);
    }

    #[test]
    fn no_key_and_an_empty_key_differ() {
        let (none, empty) = (Message::new(""), Message::new("").key(""));
        assert_eq!(there_and_back(&none, &[]).0.key, None);
        assert_eq!(there_and_back(&empty, &[]).0.key, Some(Key("".into())));
    }

    #[test]
    fn a_story_travels() {
        let death = Death {
            reason: "größe\nzero".into(),
            attempts: 3,
        };
        let message = Message::new("x");
        assert_eq!(there_and_back(&message, std::slice::from_ref(&death)).1, [death]);
    }

    #[test]
    fn more_headers_than_the_server_stores_travel_with_the_payload() {
        let headers = 0..64;
        let message = headers.fold(Message::new("payload").key("k"), |message, n| {
            message.header(format!("x-{n}"), "größe ".repeat(1_000))
        });
        let deaths: Vec<Death> = (0..100)
            .map(|n| Death {
                reason: "r".repeat(4_000),
                attempts: n,
            })
            .collect();
        let (arrived, story) = there_and_back(&message, &deaths);
        assert_eq!(arrived, message);
        assert_eq!(story.last(), deaths.last(), "the newest are told");
    }

    #[test]
    fn watermills_form_is_plain_and_comes_back() {
        let message = Message::new("x")
            .key("größe / 7")
            .header("Content-Type", "text/plain")
            .header("ce-type", "größe, 100 %41")
            .header("sagamill-name-61", "b");
        let (wire, arrived) = watermill(&message).unwrap();
        assert_eq!(arrived, message);
        assert_eq!(wire.get("ce-type").unwrap().as_str(), "größe, 100 %41");
        assert_eq!(
            wire.get("_watermill_message_uuid").unwrap().as_str(),
            message.id.to_string()
        );
    }

    #[test]
    fn what_watermills_form_would_lose_is_refused() {
        let odd = [
            ("", "x"),
            ("a:b", "x"),
            ("größe", "x"),
            ("Nats-Rollup", "all"),
            ("sagamill-key", "x"),
            ("x", " a"),
            ("x", "a\n"),
            ("x", "a\tb"),
        ];
        for (name, value) in odd {
            let error = watermill(&Message::new("x").header(name, value)).unwrap_err();
            assert!(
                matches!(&error, crate::Error::InvalidHeader { name: named, .. } if named == name),
                "{name}: {error}"
            );
        }
        let large = Message::new("x").header("x", "y".repeat(super::WIRE_MAX));
        assert!(matches!(watermill(&large), Err(crate::Error::TooLarge { .. })));
    }

    fn watermill(message: &Message) -> crate::Result<(HeaderMap, Message)> {
        let wire = super::to_watermill(message, &delivery_id(message, &Topic::from("orders")))?;
        let (arrived, _) = from_wire(&wire, message.payload.clone(), || unreachable!("it has an id"));
        Ok((wire, arrived))
    }

    #[test]
    fn a_foreign_message_is_readable() {
        let mut wire = HeaderMap::new();
        wire.insert("x-percent", "%41");
        wire.insert("ce-subject", "a%20b");
        wire.insert("ce-partitionkey", "42");
        wire.insert("ce-id", "67e55044-10b1-426f-9247-bb680e5fe0c8");
        let (message, _) = from_wire(&wire, "{}".into(), || unreachable!("it has an id"));
        assert_eq!(message.id.to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
        assert_eq!(message.headers.get("x-percent"), Some("%41"));
        assert_eq!(message.headers.get(name::SUBJECT), Some("a b"));
        assert_eq!(message.key, Some(Key("42".into())));
        let (bare, _) = from_wire(&HeaderMap::new(), "{}".into(), || "stream:7".into());
        assert_eq!(
            bare.id,
            MessageId::derived(Uuid::nil(), "stream:7", 0),
            "the same on each delivery"
        );
    }
}

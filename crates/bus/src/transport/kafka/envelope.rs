//! A message as Kafka carries it: CloudEvents' binding. Attributes are headers `ce_id`, the key is the record's, the payload
//! its value.
//!
//! Kafka carries names and values as bytes, so nothing is encoded but the few names that would be taken for something else:
//! those are named by the digits of their bytes.
//!
//! In Watermill's form the id is its header, and all others have their own names, or are refused.

use bytes::Bytes;
use rdkafka::{
    Message as _,
    message::{BorrowedMessage, Header, Headers as _, OwnedHeaders},
};
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

const ID: &str = "sagamill-id";
/// The topic of a message that does not lie on it: of dead letters, and of what was requeued.
const TOPIC: &str = "sagamill-topic";
/// The group that gave it up.
const GROUP: &str = "sagamill-group";
/// How a message was given up, oldest first.
const STORY: &str = "sagamill-story";
/// The message's own key, where the record has another.
pub(super) const KEY: &str = "sagamill-key";
/// The names above, which are no user's.
const OWN: [&str; 5] = [ID, TOPIC, GROUP, STORY, KEY];
/// CloudEvents attributes, here and on the wire.
const ATTRIBUTE: (&str, &str) = ("ce-", "ce_");
/// The key of a message that another CloudEvents producer sent.
const PARTITION_KEY: &str = "ce-partitionkey";
/// Most bytes of a story.
const STORY_BYTES_MAX: usize = 64 << 10;

/// What is known of a message that does not lie on its own topic.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    pub(super) topic: Option<Topic>,
    pub(super) group: String,
    pub(super) story: Vec<Death>,
    /// The message's key, where the record has another.
    pub(super) key: Option<Key>,
}

/// The headers of a message.
pub(super) fn to_wire(message: &Message, origin: Option<&Origin>) -> OwnedHeaders {
    let mut wire = OwnedHeaders::new_with_capacity(message.headers.len() + 4);
    wire = put(wire, ID, message.id.0.hyphenated().to_string().as_str());
    for (name, value) in message.headers.iter() {
        wire = put(wire, &wire_name(name), value);
    }
    let Some(origin) = origin else { return wire };
    if let Some(topic) = &origin.topic {
        wire = put(wire, TOPIC, topic.as_ref());
    }
    if let Some(key) = &origin.key {
        wire = put(wire, KEY, &key.0);
    }
    wire = put(wire, GROUP, &origin.group);
    if origin.story.is_empty() {
        wire
    } else {
        put(wire, STORY, &tell(&origin.story, STORY_BYTES_MAX, |json| json))
    }
}
/// The headers of a message in Watermill's form.
pub(super) fn to_watermill(message: &Message) -> Result<OwnedHeaders> {
    let mut wire = OwnedHeaders::new_with_capacity(message.headers.len() + 1);
    wire = put(wire, watermill::ID, &watermill::text_of(message));
    for (name, value) in watermill::metadata(&message.headers) {
        if name.is_empty() || name.contains('\0') {
            return Err(watermill::invalid(
                name,
                "a name on Kafka has one character at least, and no NUL",
            ));
        }
        if OWN.contains(&name) {
            return Err(watermill::invalid(
                name,
                "the name means something to this transport: rename the header",
            ));
        }
        wire = put(wire, name, value);
    }
    Ok(wire)
}

fn put(wire: OwnedHeaders, key: &str, value: &str) -> OwnedHeaders {
    wire.insert(Header {
        key,
        value: Some(value),
    })
}

/// What arrived. A message that nobody gave an id is named by where it lies.
pub(super) fn from_wire(record: &BorrowedMessage<'_>) -> (Message, Origin) {
    let (mut own, mut origin, mut headers) = (None, Origin::default(), Headers::new());
    let all = || record.headers().into_iter().flat_map(|headers| headers.iter());
    let has = |name: &str| all().any(|header| header.key == name);
    // Ours comes first where it is there.
    let is_watermill = !has(ID) && has(watermill::ID);
    for header in all() {
        // Of several of one name the last one holds.
        let value = String::from_utf8_lossy(header.value.unwrap_or_default());
        match header.key {
            ID => own = parse(&value),
            TOPIC => origin.topic = Some(Topic::from(value.into_owned())),
            GROUP => origin.group = value.into_owned(),
            STORY => origin.story = told(&value),
            KEY => origin.key = Some(Key(value.into_owned().into())),
            name if is_watermill => headers.set(name.to_owned(), value),
            name => headers.set(own_name(name), value),
        }
    }
    let foreign = || match is_watermill {
        true => watermill::id_of(headers.get(watermill::ID)?),
        false => parse(headers.get(name::ID)?),
    };
    let place = || {
        let place = format!("{}:{}:{}", record.topic(), record.partition(), record.offset());
        MessageId::derived(Uuid::nil(), &place, 0)
    };
    let key = record.key().map(|key| String::from_utf8_lossy(key).into_owned());
    let named = || {
        let key = headers.get(PARTITION_KEY).filter(|_| own.is_none());
        key.map(ToOwned::to_owned)
    };
    let mut message = Message {
        id: own.or_else(foreign).unwrap_or_else(place),
        key: key.or_else(named).map(|key| Key(key.into())),
        payload: record.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
        headers,
    };
    if is_watermill {
        watermill::tidy(&mut message);
    }
    (message, origin)
}

fn parse(id: &str) -> Option<MessageId> {
    Uuid::try_parse(id).ok().map(MessageId)
}

fn wire_name(name: &str) -> String {
    if let Some(attribute) = name.strip_prefix(ATTRIBUTE.0) {
        // The library that reads names ends them at a NUL.
        if !attribute.contains('\0') {
            return format!("{}{attribute}", ATTRIBUTE.1);
        }
    }
    let taken = OWN.contains(&name)
        || name == watermill::ID
        || name.starts_with(digits::NAMED)
        || name.starts_with(ATTRIBUTE.1);
    if !name.is_empty() && !taken && !name.contains('\0') {
        return name.to_owned();
    }
    digits::write(name)
}
fn own_name(name: &str) -> String {
    if let Some(attribute) = name.strip_prefix(ATTRIBUTE.1) {
        return format!("{}{attribute}", ATTRIBUTE.0);
    }
    digits::read(name)
}

#[cfg(test)]
mod tests {
    use super::{own_name, wire_name};

    #[test]
    fn every_name_comes_back_and_none_is_taken_for_another() {
        let names = [
            "",
            "tenant",
            "ce-id",
            "ce_id",
            "content-type",
            "sagamill-id",
            "sagamill-name-",
            "sagamill-generation",
            "_watermill_message_uuid",
            "größe",
            "a\0b",
            "ce-\0",
        ];
        let wire: std::collections::BTreeSet<String> = names.iter().map(|name| wire_name(name)).collect();
        assert_eq!(wire.len(), names.len());
        for name in names {
            assert_eq!(own_name(&wire_name(name)), name);
            assert!(!wire_name(name).contains('\0'));
        }
        assert_eq!(wire_name("ce-id"), "ce_id");
    }
}

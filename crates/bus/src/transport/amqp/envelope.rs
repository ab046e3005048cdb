//! A message as RabbitMQ carries it: the CloudEvents binding of AMQP, in AMQP 0.9.1's table of headers.
//!
//! An attribute `ce-id` is the header `cloudEvents_id`; `content-type`, the id and the time are properties; all other headers
//! keep their names, as long strings, which everybody can read. RabbitMQ obeys some headers (`CC`) and writes others
//! (`x-death`); names are short, and all headers together must fit into one frame. A message with a header that does not fit
//! in has all its headers as JSON before its payload, and `sagamill-headers` says how long that is.
//!
//! In Watermill's form there are headers alone: its id, the key, and all others by their own names, or they are refused.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use serde_json::Value;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    Headers, Key, Message, MessageId, Result, Topic,
    dead_letter::Death,
    headers::name,
    transport::{
        lanes::{tell, told},
        watermill,
    },
};

/// The application that messages of ours say they are of.
const OWN: &str = "sagamill";
const PERSISTENT: u8 = 2;
const KEY: &str = "sagamill-key";
/// The topic of a message that does not come by way of the exchange.
const TOPIC: &str = "sagamill-topic";
/// How often a message was delivered before it came to wait.
const DELIVERED: &str = "sagamill-delivered";
/// How a message was given up, oldest first: on dead letters, and on what was requeued.
const STORY: &str = "sagamill-story";
/// The queue that a dead letter came from.
const ORIGIN: &str = "sagamill-origin";
/// When a dead letter was put away, in nanoseconds since 1970: its place.
const BURIED: &str = "sagamill-buried";
/// How many bytes of the payload are headers.
const INLINE: &str = "sagamill-headers";
const MARKS: [&str; 7] = [KEY, TOPIC, DELIVERED, STORY, ORIGIN, BURIED, INLINE];
/// What a quorum queue counts: deliveries that ended without an acknowledgement.
const COUNTS: [&str; 2] = ["x-delivery-count", "x-acquired-count"];
/// Headers of more bytes do not travel as such: they share a frame of 128 KiB with the marks.
const WIRE_MAX: usize = 64 << 10;
/// Most bytes of a story, which travels as a header in any case.
const STORY_BYTES_MAX: usize = 24 << 10;
const CLOUD_EVENTS: &str = "cloudEvents_";
/// The other spelling that the binding allows.
const CLOUD_EVENTS_TOO: &str = "cloudEvents:";
const ATTRIBUTE: &str = "ce-";

/// What travels with a message beside what its sender wrote.
#[derive(Debug, Default, Clone)]
pub(super) struct Marks {
    pub(super) topic: Option<Topic>,
    pub(super) story: Vec<Death>,
    pub(super) origin: Option<String>,
    pub(super) buried: Option<u64>,
}

/// A message that arrived.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) message: Message,
    pub(super) topic: Topic,
    pub(super) marks: Marks,
    /// Which of the broker's deliveries it is, from 1.
    pub(super) delivered: u64,
    /// The same on each of its deliveries.
    pub(super) identity: u128,
}

/// The properties and the payload of a message.
pub(super) fn to_wire(message: &Message, marks: &Marks) -> (BasicProperties, Bytes) {
    let content_type = message.headers.get(name::CONTENT_TYPE);
    let mut table = table_of(message, marks);
    let mut properties = BasicProperties::default()
        .with_app_id(OWN.into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message.id.to_string().into())
        .with_timestamp(now().as_secs());
    let mut payload = message.payload.clone();
    if fits(message) {
        for (name, value) in message.headers.iter().filter(|(name, _)| *name != name::CONTENT_TYPE) {
            put(&mut table, &wire_name(name), value);
        }
        if let Some(content_type) = content_type {
            properties = properties.with_content_type(content_type.into());
        }
    } else {
        let mut whole = serde_json::to_vec(&message.headers).unwrap_or_default();
        put(&mut table, INLINE, &whole.len().to_string());
        whole.extend_from_slice(&message.payload);
        payload = whole.into();
    }
    (properties.with_headers(table), payload)
}

/// The properties of a message in Watermill's form.
pub(super) fn to_watermill(message: &Message) -> Result<BasicProperties> {
    let mut table = table_of(message, &Marks::default());
    put(&mut table, watermill::ID, &watermill::text_of(message));
    let mut size = 0;
    for (name, value) in watermill::metadata(&message.headers) {
        if name.is_empty() || name.len() >= 256 {
            return Err(watermill::invalid(name, "a name on RabbitMQ has 1 to 255 bytes"));
        }
        if is_obeyed(name) {
            return Err(watermill::invalid(
                name,
                "the name means something to the broker: rename the header",
            ));
        }
        size += name.len() + value.len() + 6;
        put(&mut table, name, value);
    }
    watermill::check_size(size, WIRE_MAX)?;
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    Ok(properties.with_headers(table))
}

/// The same message, to go to a queue by its name after it was delivered so often.
pub(super) fn again(properties: &BasicProperties, topic: &Topic, delivered: u64) -> BasicProperties {
    let mut table = FieldTable::default();
    if let Some(headers) = properties.headers() {
        for (name, value) in headers.inner().iter().filter(|(name, _)| !is_of_broker(name.as_str())) {
            table.insert(name.clone(), value.clone());
        }
    }
    put(&mut table, TOPIC, topic.as_ref());
    put(&mut table, DELIVERED, &delivered.to_string());
    properties.clone().with_headers(table).with_delivery_mode(PERSISTENT)
}

/// What arrived under a routing key. Whatever anybody sent can be read.
pub(super) fn from_wire(properties: &BasicProperties, payload: Bytes, routing_key: &str, redelivered: bool) -> Arrived {
    let empty = FieldTable::default();
    let table = properties.headers().as_ref().unwrap_or(&empty);
    let mark = |name: &str| table.inner().get(name).map(text);
    let number = |name: &str| mark(name).and_then(|text| text.parse::<u64>().ok());
    let own = properties.app_id().as_ref().is_some_and(|app| app.as_str() == OWN);
    let is_watermill = !own && table.contains_key(watermill::ID);
    let topic = mark(TOPIC).map_or_else(|| Topic::from(routing_key.to_owned()), Topic::from);
    let mut payload = payload;
    let inline = number(INLINE).and_then(|length| usize::try_from(length).ok());
    let headers = match inline.filter(|length| own && *length <= payload.len()) {
        Some(length) => serde_json::from_slice(&payload.split_to(length)).unwrap_or_default(),
        None if is_watermill => metadata_of(table),
        None => headers_of(properties, table, own),
    };
    let id = match is_watermill {
        true => headers.get(watermill::ID).and_then(watermill::id_of),
        false => id_of(properties, &headers),
    };
    let generation = headers.get(name::GENERATION).unwrap_or("0");
    let identity = match id {
        Some(id) => xxh3_128(format!("{id}:{topic}:{generation}").as_bytes()),
        None => content_hash(&topic, &headers, &payload),
    };
    let foreign_key = headers.get("ce-partitionkey").filter(|_| !own).map(str::to_owned);
    let counted = COUNTS.iter().filter_map(|name| number(name)).max().unwrap_or(0);
    let delivered = number(DELIVERED).unwrap_or(0) + counted.max(u64::from(redelivered)) + 1;
    let marks = Marks {
        topic: mark(TOPIC).map(Topic::from),
        story: mark(STORY).map(|story| told(&story)).unwrap_or_default(),
        origin: mark(ORIGIN),
        buried: number(BURIED),
    };
    let mut message = Message {
        // One without an id has another on each delivery: two that are alike must not be taken for one.
        id: id.unwrap_or_else(MessageId::random),
        key: mark(KEY).or(foreign_key).map(|key| Key(key.into())),
        headers,
        payload,
    };
    if is_watermill {
        watermill::tidy(&mut message);
    }
    Arrived {
        message,
        topic,
        marks,
        delivered,
        identity,
    }
}

/// Nanoseconds since 1970, for places of dead letters.
pub(super) fn nanoseconds() -> u64 {
    u64::try_from(now().as_nanos()).unwrap_or(u64::MAX)
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn table_of(message: &Message, marks: &Marks) -> FieldTable {
    let mut table = FieldTable::default();
    if let Some(key) = &message.key {
        put(&mut table, KEY, &key.0);
    }
    if let Some(topic) = &marks.topic {
        put(&mut table, TOPIC, topic.as_ref());
    }
    if !marks.story.is_empty() {
        put(&mut table, STORY, &tell(&marks.story, STORY_BYTES_MAX, |json| json));
    }
    if let Some(origin) = &marks.origin {
        put(&mut table, ORIGIN, origin);
    }
    if let Some(buried) = marks.buried {
        put(&mut table, BURIED, &buried.to_string());
    }
    table
}

/// Whether all headers can stand in the table as they are.
fn fits(message: &Message) -> bool {
    let mut size = 0;
    message.headers.iter().all(|(name, value)| {
        size += CLOUD_EVENTS.len() + name.len() + value.len() + 6;
        let plain = !name.is_empty() && name.len() + CLOUD_EVENTS.len() < 256 && !is_taken(name);
        plain && size <= WIRE_MAX && (name != name::CONTENT_TYPE || value.len() < 256)
    })
}
/// Names that mean something else to the broker, or to us.
fn is_taken(name: &str) -> bool {
    is_obeyed(name) || name == watermill::ID || name.starts_with(CLOUD_EVENTS) || name.starts_with(CLOUD_EVENTS_TOO)
}
/// Names that would not be taken for a header of the user's, whatever the form.
fn is_obeyed(name: &str) -> bool {
    MARKS.contains(&name) || is_of_broker(name) || name.eq_ignore_ascii_case("cc") || name.eq_ignore_ascii_case("bcc")
}
/// Names that the broker writes.
fn is_of_broker(name: &str) -> bool {
    let prefixes = ["x-death", "x-first-death-", "x-last-death-", "x-opt-"];
    COUNTS.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn headers_of(properties: &BasicProperties, table: &FieldTable, own: bool) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in table.inner() {
        let name = name.as_str();
        let hidden = MARKS.contains(&name) || COUNTS.contains(&name) || (own && is_of_broker(name));
        if !hidden {
            headers.set(own_name(name), text(value));
        }
    }
    if let Some(content_type) = properties.content_type() {
        headers.set(name::CONTENT_TYPE, content_type.as_str());
    }
    headers
}
/// All headers of Watermill's form, without what the broker or this transport has added on the way.
fn metadata_of(table: &FieldTable) -> Headers {
    let all = table.inner().iter().map(|(name, value)| (name.as_str(), value));
    let metadata = all.filter(|(name, _)| !MARKS.contains(name) && !is_of_broker(name));
    metadata.map(|(name, value)| (name.to_owned(), text(value))).collect()
}
fn id_of(properties: &BasicProperties, headers: &Headers) -> Option<MessageId> {
    let parse = |id: &str| Uuid::try_parse(id).ok().map(MessageId);
    let property = properties.message_id().as_ref().and_then(|id| parse(id.as_str()));
    property.or_else(|| parse(headers.get(name::ID)?))
}
fn content_hash(topic: &Topic, headers: &Headers, payload: &[u8]) -> u128 {
    let mut content = topic.to_string().into_bytes();
    for (name, value) in headers.iter() {
        content.extend_from_slice(format!("\0{name}\0{value}").as_bytes());
    }
    content.push(0);
    content.extend_from_slice(payload);
    xxh3_128(&content)
}

fn wire_name(name: &str) -> String {
    match name.strip_prefix(ATTRIBUTE) {
        Some(attribute) => format!("{CLOUD_EVENTS}{attribute}"),
        None => name.to_owned(),
    }
}
fn own_name(name: &str) -> String {
    let attribute = name
        .strip_prefix(CLOUD_EVENTS)
        .or_else(|| name.strip_prefix(CLOUD_EVENTS_TOO));
    match attribute {
        Some(attribute) => format!("{ATTRIBUTE}{attribute}"),
        None => name.to_owned(),
    }
}

fn put(table: &mut FieldTable, name: &str, value: &str) {
    if let Ok(name) = ShortString::try_new(name) {
        table.insert(name, AMQPValue::LongString(value.into()));
    }
}

/// Any value as text: a string as it is, numbers in digits, lists and tables as JSON.
fn text(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.as_str().to_owned(),
        AMQPValue::ByteArray(bytes) => String::from_utf8_lossy(bytes.as_slice()).into_owned(),
        AMQPValue::Void => String::new(),
        other => json(other).to_string(),
    }
}
fn json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::ShortShortInt(value) => (*value).into(),
        AMQPValue::ShortShortUInt(value) => (*value).into(),
        AMQPValue::ShortInt(value) => (*value).into(),
        AMQPValue::ShortUInt(value) => (*value).into(),
        AMQPValue::LongInt(value) => (*value).into(),
        AMQPValue::LongUInt(value) => (*value).into(),
        AMQPValue::LongLongInt(value) => (*value).into(),
        AMQPValue::Float(value) => (*value).into(),
        AMQPValue::Double(value) => (*value).into(),
        AMQPValue::DecimalValue(value) => format!("{}e-{}", value.value, value.scale).into(),
        AMQPValue::Timestamp(value) => (*value).into(),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(json).collect(),
        AMQPValue::FieldTable(table) => {
            let fields = table.inner().iter();
            Value::Object(
                fields
                    .map(|(name, value)| (name.as_str().to_owned(), json(value)))
                    .collect(),
            )
        }
        AMQPValue::Void => Value::Null,
        AMQPValue::LongString(_) | AMQPValue::ShortString(_) | AMQPValue::ByteArray(_) => text(value).into(),
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::{AMQPValue, FieldArray, FieldTable};

    use super::*;

    fn there_and_back(message: &Message, marks: &Marks) -> Arrived {
        let (properties, payload) = to_wire(message, marks);
        from_wire(&properties, payload, "orders.eu", false)
    }

    #[test]
    fn odd_headers_arrive_as_they_were_sent() {
        let values = ["", " ", "größe", "🦀", "\r\n", "\u{7f}\u{80}", "null", "1e309"];
        let mut message = Message::new("odd").key("größe / 7\n");
        for (index, value) in values.into_iter().enumerate() {
            message = message
                .header(format!("x-{index}"), value)
                .header(format!("ce-x{index}"), value);
        }
        let message = message.header(name::CONTENT_TYPE, "text/plain");
        assert_eq!(there_and_back(&message, &Marks::default()).message, message);
        let long = "n".repeat(300);
        for name in [
            "",
            "CC",
            "bcc",
            "x-death",
            "x-delivery-count",
            KEY,
            "cloudEvents_id",
            watermill::ID,
            &long,
        ] {
            let message = message.clone().header(name.to_owned(), "user's");
            let (properties, _) = to_wire(&message, &Marks::default());
            let table = properties.headers().clone().unwrap();
            assert!(name == KEY || !table.contains_key(name), "{name} is not obeyed");
            assert_eq!(there_and_back(&message, &Marks::default()).message, message, "{name}");
        }
    }

    #[test]
    fn more_headers_than_a_frame_takes_travel_with_the_payload() {
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
        let marks = Marks {
            story: deaths.clone(),
            ..Marks::default()
        };
        let arrived = there_and_back(&message, &marks);
        assert_eq!(arrived.message, message);
        assert_eq!(arrived.marks.story.last(), deaths.last(), "the newest are told");
    }

    #[test]
    fn any_value_of_a_foreign_header_can_be_read() {
        let mut deaths = FieldTable::default();
        deaths.insert("count".into(), AMQPValue::LongLongInt(3));
        deaths.insert("queue".into(), AMQPValue::LongString("q".into()));
        let mut list = FieldArray::default();
        list.push(AMQPValue::FieldTable(deaths));
        let mut table = FieldTable::default();
        for (name, value) in [
            ("x-death", AMQPValue::FieldArray(list)),
            ("x-delivery-count", AMQPValue::LongLongInt(2)),
            ("number", AMQPValue::LongInt(-7)),
            ("flag", AMQPValue::Boolean(true)),
            ("nothing", AMQPValue::Void),
            ("cloudEvents:partitionkey", AMQPValue::LongString("42".into())),
            (
                "cloudEvents:id",
                AMQPValue::LongString("67e55044-10b1-426f-9247-bb680e5fe0c8".into()),
            ),
        ] {
            table.insert(name.into(), value);
        }
        let properties = BasicProperties::default().with_headers(table);
        let arrived = from_wire(&properties, "{}".into(), "orders", true);
        let header = |name: &str| arrived.message.headers.get(name);
        assert_eq!(header("x-death"), Some(r#"[{"count":3,"queue":"q"}]"#));
        assert_eq!(
            (header("number"), header("flag"), header("nothing")),
            (Some("-7"), Some("true"), Some(""))
        );
        assert_eq!((arrived.delivered, header("x-delivery-count")), (3, None));
        assert_eq!(arrived.message.key, Some(Key("42".into())));
        assert_eq!(arrived.message.id.to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
    }

    #[test]
    fn watermills_form_is_headers_alone_and_comes_back() {
        let message = Message::new("x")
            .key("k")
            .header(name::CONTENT_TYPE, "text/plain")
            .header("ce-type", "größe")
            .header("cloudEvents_type", " \n");
        let properties = to_watermill(&message).unwrap();
        let bare = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let headers = properties.headers().clone().unwrap();
        assert_eq!(properties, bare.with_headers(headers.clone()));
        let is_string = |value: &AMQPValue| matches!(value, AMQPValue::LongString(_));
        assert!(headers.inner().values().all(is_string));
        let arrived = from_wire(&properties, message.payload.clone(), "orders", false);
        assert_eq!(arrived.message, message);
        // Delivered again, it is the same, with the broker's marks.
        let mut marked = headers;
        marked.insert("x-delivery-count".into(), AMQPValue::LongLongInt(1));
        let again = from_wire(&properties.with_headers(marked), "x".into(), "orders", true);
        assert_eq!((again.message, again.identity), (message, arrived.identity));
    }

    #[test]
    fn what_watermills_form_cannot_carry_is_refused() {
        for name in ["", "CC", "x-death", KEY, &"n".repeat(256)] {
            let error = to_watermill(&Message::new("x").header(name.to_owned(), "y")).unwrap_err();
            assert!(matches!(error, crate::Error::InvalidHeader { .. }), "{name}: {error}");
        }
        let large = Message::new("x").header("x", "y".repeat(WIRE_MAX));
        assert!(matches!(to_watermill(&large), Err(crate::Error::TooLarge { .. })));
    }

    #[test]
    fn a_message_without_an_id_is_known_by_its_content() {
        let arrive = |payload: &'static str| from_wire(&BasicProperties::default(), payload.into(), "orders", false);
        let (one, same, other) = (arrive("a"), arrive("a"), arrive("b"));
        assert_eq!(one.identity, same.identity);
        assert_ne!(one.identity, other.identity);
        assert_ne!(one.message.id, same.message.id, "they may be two");
    }

    #[test]
    fn what_waited_remembers_how_often_it_was_delivered() {
        let (properties, payload) = to_wire(&Message::new("x"), &Marks::default());
        let arrived = from_wire(&again(&properties, &Topic::from("orders"), 4), payload, "queue", false);
        assert_eq!((arrived.topic, arrived.delivered), (Topic::from("orders"), 5));
    }
}

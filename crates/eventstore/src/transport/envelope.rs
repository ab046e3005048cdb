//! From a message to the event that carries it, and back.

use sagamill_bus::{Death, Error, Headers, Key, Message, MessageId, Result, Topic, headers::name};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    Anchor, NewEvent, Recorded, StreamId,
    entry::{self, MAX_HEADERS, MAX_NAME},
    relay::{Origin, envelope},
};

/// The message's own id: its event is named for the delivery, so that a message may be on several topics. Events without it
/// were not published here: they were appended with a topic, and are messages as the relay would send them.
const ID: &str = "sagamill-bus-message";
/// The only group that it is for: it was a dead letter of this one.
pub(super) const GROUP: &str = "sagamill-bus-group";
/// The deaths that it died before, as JSON.
const STORY: &str = "sagamill-bus-story";

/// Most deaths that a message's story tells; of more, the newest.
const DEATHS: usize = 64;

/// A message as it lies in the log.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) at: Anchor,
    pub(super) message: Message,
    pub(super) topic: Topic,
    /// None: for all groups.
    pub(super) group: Option<String>,
    /// The deaths that it died before, oldest first.
    pub(super) story: Vec<Death>,
}

/// What carries a message: named by its delivery id, that is by message, topic and generation.
pub(super) fn carrier(transport: &'static str, topic: &Topic, message: Message) -> Result<(StreamId, NewEvent)> {
    let id = delivery(&message, &format!("bus:{topic}"));
    carry(transport, topic, message, id, |_| ())
}

/// What carries a dead letter, a generation further, back to its group and to no other.
pub(super) fn revival(
    transport: &'static str,
    group: &str,
    letter: Letter,
    last: Death,
) -> Result<(StreamId, NewEvent)> {
    let Letter {
        message,
        topic,
        mut story,
        ..
    } = letter;
    let id = delivery(&message, &format!("bus:{topic}/{group}"));
    story.push(last);
    let told = &story[story.len().saturating_sub(DEATHS)..];
    let told: Vec<(&str, u32)> = told
        .iter()
        .map(|death| (death.reason.as_str(), death.attempts))
        .collect();
    let told = serde_json::to_string(&told).expect("invariant: strings and numbers are JSON");
    carry(transport, &topic, message, id, |headers| {
        headers.set(GROUP, group);
        headers.set(STORY, told);
    })
}

/// The message that an event carries; none where it has no topic.
pub(super) fn letter(event: Recorded, origin: &Origin) -> Option<Letter> {
    let at = Anchor {
        position: event.position,
        event: Some(event.id),
    };
    let topic = event.topic.clone()?;
    let Some(own) = event.headers.get(ID) else {
        let (group, story) = (None, Vec::new());
        return Some(Letter {
            at,
            message: envelope::message(&event, origin),
            topic,
            group,
            story,
        });
    };
    let id = MessageId(Uuid::try_parse(own).unwrap_or(event.id));
    let mut headers = event.headers;
    headers.remove(ID);
    let group = headers.remove(GROUP);
    let told: Vec<(String, u32)> = headers
        .remove(STORY)
        .and_then(|json| serde_json::from_str(&json).ok())
        .unwrap_or_default();
    let story = told.into_iter().map(|(reason, attempts)| Death { reason, attempts });
    let message = Message {
        id,
        key: event.key.map(Key::from),
        headers,
        payload: event.event,
    };
    Some(Letter {
        at,
        message,
        topic,
        group,
        story: story.collect(),
    })
}

/// The only group that a message is for; none: it is for all of them.
pub(super) fn addressee(headers: &Headers) -> Option<&str> {
    headers.get(ID).and(headers.get(GROUP))
}

fn delivery(message: &Message, what: &str) -> Uuid {
    MessageId::derived(message.id.0, what, message.generation()).0
}

fn carry(
    transport: &'static str,
    topic: &Topic,
    message: Message,
    id: Uuid,
    mark: impl FnOnce(&mut Headers),
) -> Result<(StreamId, NewEvent)> {
    check_key(transport, message.key.as_ref())?;
    let stream = stream(topic, message.key.as_ref(), id);
    let uuid = |name| message.headers.get(name).and_then(|text| Uuid::try_parse(text).ok());
    let (correlation, causation) = (uuid(name::CORRELATION), uuid(name::CAUSATION));
    let event_type = message.headers.get(name::TYPE).filter(|name| is_name(name));
    let event_type = event_type.unwrap_or("message").to_owned();
    let schema = message
        .headers
        .get(name::DATA_SCHEMA)
        .and_then(|text| text.parse().ok());
    let mut headers = message.headers;
    headers.set(ID, message.id.to_string());
    // Not the sender's to say.
    headers.remove(GROUP);
    headers.remove(STORY);
    mark(&mut headers);
    let size = entry::bytes(&headers);
    if size > MAX_HEADERS {
        return Err(Error::TooLarge {
            part: "headers",
            size,
            max: MAX_HEADERS,
        });
    }
    let event = NewEvent {
        id,
        schema: schema.unwrap_or(1),
        topic: Some(topic.clone()),
        key: message.key.map(|key| key.0.into_owned()),
        correlation,
        causation,
        headers,
        ..NewEvent::new(event_type, message.payload)
    };
    Ok((stream, event))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.contains('\0')
}

fn check_key(transport: &'static str, key: Option<&Key>) -> Result<()> {
    let Some(key) = key else { return Ok(()) };
    if key.0.len() > MAX_NAME {
        return Err(Error::TooLarge {
            part: "key",
            size: key.0.len(),
            max: MAX_NAME,
        });
    }
    if key.0.contains('\0') {
        let wanted = "keys with a NUL in them";
        return Err(Error::Unsupported { transport, wanted });
    }
    Ok(())
}

/// One stream for each topic and key, so that appends to different keys share a commit; without a key one for each message,
/// for the same reason. Topics have neither slashes nor colons in them.
fn stream(topic: &Topic, key: Option<&Key>, id: Uuid) -> StreamId {
    let name = match key {
        Some(key) => format!("bus-{topic}/{}", key.0),
        None => format!("bus-{topic}:{id}"),
    };
    if name.len() <= MAX_NAME {
        name.into()
    } else {
        format!("bus-{:032x}", xxh3_128(name.as_bytes())).into()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::{Position, Version};

    fn origin() -> Origin {
        Origin {
            source: "bus".to_owned(),
            log: "a-log".to_owned(),
        }
    }
    fn recorded((stream, event): (StreamId, NewEvent)) -> Recorded {
        Recorded {
            position: Position(7),
            stream,
            version: Version(1),
            at: Timestamp::UNIX_EPOCH,
            id: event.id,
            name: event.name,
            schema: event.schema,
            topic: event.topic,
            key: event.key,
            correlation: event.correlation,
            causation: event.causation,
            headers: event.headers,
            event: event.payload,
        }
    }
    fn message() -> Message {
        Message::new("text").key("größe / 7").header(name::TYPE, "order.placed")
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let topic = Topic::from("order");
        let odd = Message::new(vec![0, 255])
            .key("")
            .header(name::TYPE, "x".repeat(300))
            .header("odd", "\0");
        for message in [message(), Message::new(""), odd] {
            let carried = carrier("log", &topic, message.clone()).unwrap();
            let letter = letter(recorded(carried), &origin()).unwrap();
            assert_eq!((letter.message, letter.topic), (message, topic.clone()));
            assert!(letter.group.is_none() && letter.story.is_empty());
        }
        let forged = message().header(GROUP, "nobody").header(STORY, "[]").header(ID, "mine");
        let letter = letter(recorded(carrier("log", &topic, forged.clone()).unwrap()), &origin()).unwrap();
        assert_eq!((letter.group, letter.message.id), (None, forged.id));
    }

    #[test]
    fn a_message_is_one_delivery_on_each_topic_and_in_each_generation() {
        let message = message();
        let id =
            |topic: &'static str, message: &Message| carrier("log", &Topic::from(topic), message.clone()).unwrap().1.id;
        let again = message.clone().header(name::GENERATION, "1");
        let ids = [id("order", &message), id("order.dead", &message), id("order", &again)];
        assert_eq!(ids[0], id("order", &message.clone().header("trace", "other")));
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && !ids.contains(&message.id.0));
    }

    #[test]
    fn a_dead_letter_goes_back_with_its_story() {
        let mut carried = carrier("log", &Topic::from("order"), message()).unwrap();
        for generation in 1..=100_u32 {
            let mut letter = letter(recorded(carried), &origin()).unwrap();
            letter.message.revive(None);
            let death = Death {
                reason: format!("\"{generation}\""),
                attempts: generation,
            };
            carried = revival("log", "inventory", letter, death).unwrap();
        }
        let letter = letter(recorded(carried), &origin()).unwrap();
        assert_eq!(letter.message.headers.get(name::GENERATION), Some("100"));
        assert_eq!(
            (letter.group.as_deref(), letter.message.id),
            (Some("inventory"), letter.message.id)
        );
        assert_eq!(
            letter.message.headers.len(),
            2,
            "nothing of ours is left: {:?}",
            letter.message
        );
        let told: Vec<u32> = letter.story.iter().map(|death| death.attempts).collect();
        assert_eq!(told, (37..=100).collect::<Vec<_>>());
    }

    #[test]
    fn what_no_log_can_hold_is_refused_by_type() {
        let topic = Topic::from("order");
        let carried = |message| carrier("log", &topic, message).map(drop);
        let key = carried(message().key("k".repeat(256)));
        assert!(matches!(key, Err(Error::TooLarge { part: "key", .. })));
        assert!(matches!(carried(message().key("a\0b")), Err(Error::Unsupported { .. })));
        let headers = carried(message().header("x", "v".repeat(MAX_HEADERS)));
        assert!(matches!(headers, Err(Error::TooLarge { part: "headers", .. })));
    }

    proptest! {
        #[test]
        fn every_stream_is_one_a_log_takes(topic in "[a-z]{1,100}(\\.[a-z]{1,100})?", key in prop::option::of("[^\0]{0,60}")) {
            let key = key.map(Key::from);
            let stream = stream(&Topic::from(topic), key.as_ref(), Uuid::nil());
            prop_assert!(stream.as_str().len() <= MAX_NAME);
            prop_assert_eq!(stream.category(), "bus");
        }
    }
}

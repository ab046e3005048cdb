//! From an event in the log to the message on the bus.

use sagamill_bus::{Headers, Key, Message, MessageId, headers::name};
use uuid::Uuid;

use crate::Recorded;

/// What is the same in all messages of a log.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// `ce-source`.
    pub(crate) source: String,
    /// `sagamill-log`.
    pub(crate) log: String,
}

impl Origin {
    /// A log that names itself as the source.
    pub(crate) fn of(log: Uuid) -> Self {
        let log = log.to_string();
        Self {
            source: log.clone(),
            log,
        }
    }
}

/// The message of an event: id and payload as they are, the event's own headers before what is set here.
pub(crate) fn message(event: &Recorded, origin: &Origin) -> Message {
    let mut headers = event.headers.clone();
    let mut default = |name: &'static str, value: &dyn ToString| {
        if headers.get(name).is_none() {
            headers.set(name, value.to_string());
        }
    };
    default(name::ID, &event.id);
    default(name::TYPE, &event.name);
    default(name::SOURCE, &origin.source);
    default(name::SUBJECT, &event.stream);
    default(name::TIME, &event.at);
    default(name::DATA_SCHEMA, &event.schema);
    default(name::CONTENT_TYPE, &"application/json");
    if let Some(correlation) = &event.correlation {
        default(name::CORRELATION, correlation);
    }
    if let Some(causation) = &event.causation {
        default(name::CAUSATION, causation);
    }
    place(&mut headers, event, origin);
    let key = Some(Key(key(event).to_owned().into()));
    Message {
        id: MessageId(event.id),
        key,
        headers,
        payload: event.event.clone(),
    }
}

/// Where it was relayed from is for the relay alone to say: an event may carry the headers of the message that it came from.
fn place(headers: &mut Headers, event: &Recorded, origin: &Origin) {
    headers.set(name::SEQUENCE, format!("{}.{}", event.position, event.version));
    headers.set(name::LOG, origin.log.clone());
}

/// The message key: the event's own, or its stream.
pub(crate) fn key(event: &Recorded) -> &str {
    event.key.as_deref().unwrap_or(event.stream.as_str())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Position, StreamId, Version};

    fn event() -> Recorded {
        Recorded {
            position: Position(7),
            stream: StreamId::from("order-1"),
            version: Version(2),
            at: "2026-01-02T03:04:05Z".parse().expect("invariant: a valid time"),
            id: Uuid::from_u128(1),
            name: "order.placed".to_owned(),
            schema: 3,
            topic: Some("order".into()),
            key: None,
            correlation: Some(Uuid::from_u128(2)),
            causation: None,
            headers: Headers::new(),
            event: Bytes::from_static(b"{}"),
        }
    }
    fn origin() -> Origin {
        Origin {
            source: "shop".to_owned(),
            log: "a-log".to_owned(),
        }
    }

    #[test]
    fn message_of_an_event_carries_its_attributes_and_its_payload_uncopied() {
        let event = event();
        let message = message(&event, &origin());
        let mut headers: Vec<_> = message.headers.iter().collect();
        headers.sort_unstable();
        let (id, cause) = (event.id.to_string(), Uuid::from_u128(2).to_string());
        let expected = [
            ("ce-correlationid", cause.as_str()),
            ("ce-dataschema", "3"),
            ("ce-id", id.as_str()),
            ("ce-source", "shop"),
            ("ce-subject", "order-1"),
            ("ce-time", "2026-01-02T03:04:05Z"),
            ("ce-type", "order.placed"),
            ("content-type", "application/json"),
            ("sagamill-log", "a-log"),
            ("sagamill-seq", "7.2"),
        ];
        assert_eq!(headers, expected);
        assert_eq!((message.id.0, message.key), (event.id, Some(Key::from("order-1"))));
        assert_eq!(message.payload.as_ptr(), event.event.as_ptr());
    }

    #[test]
    fn headers_of_the_event_go_before_those_of_the_relay_but_for_its_place() {
        let mut event = event();
        event.key = Some("a-key".to_owned());
        event.headers.set(name::TYPE, "mine");
        event.headers.set(name::SEQUENCE, "forged");
        let message = message(&event, &origin());
        assert_eq!(message.headers.get(name::TYPE), Some("mine"));
        assert_eq!(message.headers.get(name::SEQUENCE), Some("7.2"));
        assert_eq!(message.key, Some(Key::from("a-key")));
    }
}

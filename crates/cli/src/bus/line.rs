//! How a message looks to scripts: one line of JSON.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use sagamill::bus::{Delivery, Message};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::output::one_line;

/// A message, as all that show one show it.
#[derive(Debug, Serialize)]
pub(super) struct MessageLine<'a> {
    topic: &'a str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    headers: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

impl<'a> MessageLine<'a> {
    pub(super) fn of(topic: &'a str, message: &'a Message) -> Self {
        let text = one_line(&message.payload);
        let data: Option<Box<RawValue>> = text.and_then(|text| serde_json::from_str(&text).ok());
        Self {
            topic,
            id: message.id.to_string(),
            key: message.key.as_ref().map(|key| key.0.as_ref()),
            attempt: None,
            headers: message.headers.iter().collect(),
            data_base64: data.is_none().then(|| BASE64_STANDARD.encode(&message.payload)),
            data,
        }
    }
}

impl<'a> From<&'a Delivery> for MessageLine<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        Self {
            attempt: Some(delivery.attempt),
            ..Self::of(delivery.topic.as_ref(), &delivery.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        let json = Message::new("{\n \"a\": 1 }").key("k").header("tenant", "a\nb");
        let line = serde_json::to_string(&MessageLine::of("order", &json)).unwrap();
        assert!(!line.contains('\n') && line.contains(r#""data":{  "a": 1 }"#), "{line}");
        assert!(
            line.contains(r#""key":"k""#) && line.contains(r#""tenant":"a\nb""#),
            "{line}"
        );
        let bytes = Message::new(&b"\xff\xfe"[..]);
        let line = serde_json::to_string(&MessageLine::of("order", &bytes)).unwrap();
        assert!(line.contains(r#""data_base64":"//4=""#), "{line}");
    }
}

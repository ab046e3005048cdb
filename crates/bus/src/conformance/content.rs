//! What is sent is what arrives.

use bytes::Bytes;

use super::{
    Harness,
    fixture::{Fixture, numbered},
};
use crate::{Error, Message, Topic, headers::name, limit};

/// Id, key, headers and payload arrive unchanged, and each message has a trace.
pub async fn content_arrives_as_it_was_sent<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    let sent = [
        Message::new(Bytes::new()),
        Message::new("text").key("größe / 7"),
        Message::new((0..=255).collect::<Vec<u8>>())
            .key("")
            .header("tenant", "north"),
        Message::json(&["a"]).expect("it is JSON").key(7),
    ];
    for message in &sent {
        fixture.publish([message.clone()]).await;
        let delivery = inbox.next().await;
        let got = &delivery.message;
        assert_eq!(
            (got.id, &got.key, &got.payload),
            (message.id, &message.key, &message.payload)
        );
        assert_eq!((&delivery.topic, delivery.attempt), (&fixture.topic, 1));
        for (header, value) in message.headers.iter() {
            assert_eq!(got.headers.get(header), Some(value));
        }
        assert!(got.headers.get(name::TRACEPARENT).is_some());
        delivery.ack().await.expect("the ack is taken");
    }
}

/// Headers may be empty, long, Unicode, or look like somebody's markup.
pub async fn odd_headers_arrive_as_they_were_sent<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    let values = [
        "",
        " ",
        "a b",
        "größe",
        "日本語",
        "🦀",
        "\"quoted\"",
        "a=b; c=d",
        "%00%0a",
        "\u{7f}\u{80}",
        "null",
        "1e309",
    ];
    let mut message = Message::new("odd").header("x-long", "x".repeat(8 << 10));
    for (index, value) in values.iter().enumerate() {
        message = message.header(format!("x-odd-{index}"), *value);
    }
    fixture.publish([message.clone()]).await;
    let delivery = inbox.next().await;
    for (header, value) in message.headers.iter() {
        assert_eq!(delivery.message.headers.get(header), Some(value), "{header}");
    }
    delivery.ack().await.expect("the ack is taken");
}

/// A payload of 1 MiB, 64 headers of 8 KiB and a key of 255 bytes pass; a byte or a header more is refused with a typed
/// error, alone.
pub async fn a_large_message_passes_and_a_larger_one_is_refused_alone<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    let payload = |size: usize| (0..size).map(|n| (n % 251) as u8).collect::<Vec<u8>>();
    let with_headers = |count: usize, size: usize| {
        let headers = 0..count;
        headers.fold(Message::new("headers"), |message, n| {
            message.header(format!("x-{n}"), "v".repeat(size))
        })
    };
    let (large, many) = (
        Message::new(payload(limit::PAYLOAD)).key("k".repeat(limit::KEY)),
        with_headers(limit::HEADERS, 8 << 10),
    );
    let batch = vec![
        large.clone(),
        Message::new(payload(limit::PAYLOAD + 1)),
        with_headers(limit::HEADERS + 1, 1),
        with_headers(1, limit::HEADER + 1),
        Message::new("key").key("k".repeat(limit::KEY + 1)),
        many.clone(),
    ];
    let results = fixture.bus.publish_each(&fixture.topic, batch).await;
    let refused = |result: &crate::Result<_>| matches!(result, Err(Error::TooLarge { .. }));
    assert_eq!(
        results.iter().map(refused).collect::<Vec<_>>(),
        [false, true, true, true, true, false]
    );
    assert!(results[0].is_ok() && results[5].is_ok(), "{results:?}");
    for _ in 0..2 {
        let delivery = inbox.next().await;
        let sent = if delivery.message.id == large.id { &large } else { &many };
        assert!(delivery.message.payload == sent.payload, "the payload is the same");
        assert!(delivery.message.key == sent.key, "the key is the same");
        assert!(
            sent.headers
                .iter()
                .all(|(header, value)| delivery.message.headers.get(header) == Some(value))
        );
        delivery.ack().await.expect("the ack is taken");
    }
    assert!(inbox.is_silent().await);
}

/// Names that some broker could not carry are refused by all.
pub async fn an_invalid_topic_is_refused<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    for name in ["", "a..b", "with space", "größe", "payment.*"] {
        let published = fixture.bus.publish_to(Topic::from(name), numbered(0..1)).await;
        assert!(
            matches!(published, Err(Error::InvalidTopic { .. })),
            "{name}: {published:?}"
        );
    }
    assert!(
        fixture.bus.publish_each(&fixture.topic, Vec::new()).await.is_empty(),
        "nothing is published at once"
    );
}

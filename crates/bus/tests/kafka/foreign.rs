//! Messages of others.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use sagamill_bus::{Message, Subscribe};

use crate::fixture::{connect, is_silent, next, shared, text, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_our_headers_is_readable() {
    let Some(url) = shared().await else { return };
    let (bus, topic) = (connect(&url).await, topic("foreign"));
    let mut stream = bus.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let servers = url.strip_prefix("kafka://").unwrap();
    let client: FutureProducer = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let within = Duration::from_secs(30);
    let bare = FutureRecord::<(), str>::to(topic.as_ref()).payload("bare");
    client.send(bare, within).await.unwrap();
    let header = |key: &'static str, value: &'static [u8]| Header {
        key,
        value: Some(value),
    };
    let headers = OwnedHeaders::new()
        .insert(header("tenant", b"south"))
        .insert(header("tenant", b"north"))
        .insert(header("ce_type", b"order.placed"))
        .insert(header("odd", &[0xff, b'x']))
        .insert(Header::<&str> {
            key: "null",
            value: None,
        });
    let headed = FutureRecord::to(topic.as_ref())
        .key("k")
        .payload("headed")
        .headers(headers);
    client.send(headed, within).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let delivery = next(&mut stream).await;
        let Message { id, key, headers, .. } = delivery.message.clone();
        seen.push((text(&delivery.message), delivery.attempt, id));
        if text(&delivery.message) == "bare" && delivery.attempt == 1 {
            assert!(key.is_none() && headers.is_empty());
            delivery.retry(None).await.unwrap();
            continue;
        }
        if text(&delivery.message) == "headed" {
            assert_eq!(key.unwrap().0, "k");
            let expected = [
                ("tenant", "north"),
                ("ce-type", "order.placed"),
                ("odd", "\u{fffd}x"),
                ("null", ""),
            ];
            for (name, value) in expected {
                assert_eq!(headers.get(name), Some(value), "{name}");
            }
        }
        delivery.ack().await.unwrap();
    }
    seen.sort();
    assert_eq!((seen[0].0.as_str(), seen[1].0.as_str(), seen[1].1), ("bare", "bare", 2));
    assert_eq!(seen[0].2, seen[1].2, "its id is the same on each delivery");
    assert!(is_silent(&mut stream).await);
}

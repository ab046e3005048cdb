//! In the form of services on Watermill for Go.

#[path = "../broker/watermill.rs"]
mod form;

use std::collections::BTreeMap;

use async_nats::{HeaderMap, jetstream};
use sagamill_bus::{Bus, Subscribe, Wire, nats::Nats};

use self::form::{ID, THEIR_ID, TRACE};
use crate::fixture::{client, connect, is_silent, next, shared, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_write_is_theirs_to_read() {
    let Some(url) = shared().await else { return };
    let bus = Nats::options(&url).wire(Wire::Watermill).connect().await.unwrap();
    let (topic, message) = (topic("watermill"), form::message());
    bus.publish_to(topic.clone(), [message.clone()]).await.unwrap();
    // As the server has stored it.
    let context = jetstream::new(client(&url).await);
    let stream = context.get_stream("sagamill").await.unwrap();
    let subject = format!("sagamill.topic.{topic}");
    let came = stream.get_last_raw_message_by_subject(&subject).await.unwrap();
    let headers = came.headers;
    let seen: BTreeMap<String, String> = headers
        .iter()
        .map(|(name, values)| (name.to_string(), values[0].to_string()))
        .filter(|(name, _)| !name.starts_with("Nats-") && name != TRACE)
        .collect();
    let mut metadata = form::metadata(&message);
    metadata.insert("sagamill-key".to_owned(), "k".to_owned());
    assert_eq!(seen, metadata);
    assert_eq!(came.payload, message.payload);
    let repeated = bus.publish_to(topic.clone(), [message.clone()]).await;
    repeated.expect("the server drops what it has already");
    let reader = connect(&url).await;
    let mut stream = reader.subscribe(Subscribe::new(topic, "group")).await.unwrap();
    let delivery = next(&mut stream).await;
    form::assert_is(&delivery, &message);
    delivery.ack().await.unwrap();
    assert!(is_silent(&mut stream).await, "it was dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_they_write_is_ours_to_read_and_to_send_on() {
    let Some(url) = shared().await else { return };
    let bus = Bus::connect(&format!("{url}?wire=watermill")).await.unwrap();
    let topic = topic("theirs");
    let mut stream = bus.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in [(ID, THEIR_ID), ("ce-odd", "100%41"), ("Content-Type", "x")] {
        headers.insert(name, value);
    }
    let client = client(&url).await;
    let subject = format!("sagamill.topic.{topic}");
    client.publish_with_headers(subject, headers, "x".into()).await.unwrap();
    let delivery = next(&mut stream).await;
    let came = delivery.message.clone();
    assert_eq!(came.headers.get("ce-odd"), Some("100%41"), "nothing is decoded");
    assert_eq!(came.headers.get("Content-Type"), Some("x"));
    delivery.ack().await.unwrap();
    form::goes_on_as_it_came(&bus, came).await;
}

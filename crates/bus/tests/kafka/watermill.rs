//! In the form of services on Watermill for Go.

#[path = "../broker/watermill.rs"]
mod form;

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    ClientConfig, Message as _,
    consumer::{Consumer as _, StreamConsumer},
    message::{Header, Headers as _, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use sagamill_bus::{Error, Message, Subscribe, Wire};

use self::form::{ID, THEIR_ID, TRACE};
use crate::fixture::{PATIENCE, connect, next, options, shared, text, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_write_is_theirs_to_read() {
    let Some(url) = shared().await else { return };
    let bus = options(&url).wire(Wire::Watermill).connect().await.unwrap();
    let (topic, message) = (topic("watermill"), form::message());
    bus.publish_to(topic.clone(), [message.clone()]).await.unwrap();
    let client: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", url.strip_prefix("kafka://").unwrap())
        .set("group.id", topic.as_ref())
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    client.subscribe(&[topic.as_ref()]).unwrap();
    let record = tokio::time::timeout(PATIENCE, client.recv()).await.unwrap().unwrap();
    let headers = record.headers().unwrap().iter();
    let text = |header: Header<'_, &[u8]>| {
        let value = std::str::from_utf8(header.value.unwrap()).unwrap();
        (header.key.to_owned(), value.to_owned())
    };
    let seen: BTreeMap<String, String> = headers.map(text).filter(|(name, _)| name != TRACE).collect();
    assert_eq!(seen, form::metadata(&message));
    assert_eq!(
        (record.key(), record.payload()),
        (Some(&b"k"[..]), Some(&b"payload"[..]))
    );
    // And ours, by whichever form the reader writes.
    let reader = connect(&url).await;
    let mut stream = reader.subscribe(Subscribe::new(topic, "group")).await.unwrap();
    let delivery = next(&mut stream).await;
    form::assert_is(&delivery, &message);
    delivery.ack().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_they_write_is_ours_to_read_and_to_send_on() {
    let Some(url) = shared().await else { return };
    let bus = options(&url).wire(Wire::Watermill).connect().await.unwrap();
    let topic = topic("theirs");
    let mut stream = bus.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let servers = url.strip_prefix("kafka://").unwrap();
    let client: FutureProducer = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let all = [(ID, THEIR_ID), ("ce_odd", "größe"), ("twice", "1"), ("twice", "2")];
    let headers = all.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(*value),
        })
    });
    let record = FutureRecord::<(), str>::to(topic.as_ref())
        .payload("x")
        .headers(headers);
    client.send(record, Duration::from_secs(30)).await.unwrap();
    let delivery = next(&mut stream).await;
    let came = delivery.message.clone();
    assert_eq!(
        (came.headers.get("ce_odd"), came.headers.get("twice")),
        (Some("größe"), Some("2"))
    );
    delivery.ack().await.unwrap();
    form::goes_on_as_it_came(&bus, came).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_form_cannot_carry_is_refused_alone() {
    let Some(url) = shared().await else { return };
    let bus = options(&url).wire(Wire::Watermill).connect().await.unwrap();
    let topic = topic("refused");
    let odd = Message::new("odd").header("sagamill-key", "x");
    let results = bus
        .publish_each(&topic, vec![Message::new("0"), odd, Message::new("2")])
        .await;
    assert!(matches!(&results[1], Err(Error::InvalidHeader { name, .. }) if name == "sagamill-key"));
    let mut stream = bus.subscribe(Subscribe::new(topic, "group")).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let delivery = next(&mut stream).await;
        seen.push(text(&delivery.message));
        delivery.ack().await.unwrap();
    }
    seen.sort();
    assert_eq!(seen, ["0", "2"]);
}

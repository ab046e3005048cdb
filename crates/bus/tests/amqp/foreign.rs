//! Messages of others.

use lapin::{
    BasicProperties,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldTable},
};
use sagamill_bus::{Message, Subscribe};

use crate::fixture::{client, connect, is_silent, next, shared, text, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_with_headers_of_any_type_is_read_and_read_again() {
    let Some(url) = shared().await else { return };
    let (bus, topic) = (connect(&url).await, topic("foreign"));
    let request = Subscribe::new(topic.clone(), "group");
    let mut stream = bus.subscribe(request.clone()).await.unwrap();
    let (_connection, channel) = client(&url).await;
    let mut table = FieldTable::default();
    table.insert("number".into(), AMQPValue::LongInt(7));
    table.insert("table".into(), AMQPValue::FieldTable(FieldTable::default()));
    let properties = BasicProperties::default().with_headers(table);
    let published = channel.basic_publish(
        "sagamill".into(),
        topic.as_ref().into(),
        BasicPublishOptions::default(),
        b"bare",
        properties,
    );
    let _ = published.await.unwrap().await.unwrap();
    let delivery = next(&mut stream).await;
    let header = |name: &str| delivery.message.headers.get(name).map(str::to_owned);
    assert_eq!((text(&delivery.message).as_str(), &delivery.topic), ("bare", &topic));
    assert_eq!(
        (header("number"), header("table")),
        (Some("7".into()), Some("{}".into()))
    );
    // Given back, it has a header from the broker that is a number.
    drop(stream);
    let mut stream = bus.subscribe(request).await.unwrap();
    for attempt in 1..=2 {
        let delivery = next(&mut stream).await;
        assert_eq!((text(&delivery.message).as_str(), delivery.attempt), ("bare", attempt));
        assert_eq!(delivery.message.headers.get("number"), Some("7"));
        if attempt == 1 {
            delivery.retry(None).await.unwrap();
        } else {
            delivery.ack().await.unwrap();
        }
    }
    assert!(is_silent(&mut stream).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_can_read_our_headers_as_strings() {
    let Some(url) = shared().await else { return };
    let (bus, topic) = (connect(&url).await, topic("ours"));
    let (_connection, channel) = client(&url).await;
    let queue = channel
        .queue_declare(
            "".into(),
            lapin::options::QueueDeclareOptions::exclusive(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let bound = channel.queue_bind(
        queue.name().clone(),
        "sagamill".into(),
        topic.as_ref().into(),
        lapin::options::QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.unwrap();
    let message = Message::new("0")
        .key("k")
        .header("ce-type", "order.placed")
        .header("tenant", "north");
    bus.publish_to(topic, [message]).await.unwrap();
    let got = channel.basic_get(queue.name().clone(), lapin::options::BasicGetOptions { no_ack: true });
    let got = got.await.unwrap().expect("it is there");
    let table = got.properties.headers().clone().unwrap();
    let is_string = |value: &AMQPValue| matches!(value, AMQPValue::LongString(_));
    assert!(table.inner().values().all(is_string), "{table:?}");
    assert!(table.contains_key("cloudEvents_type") && table.contains_key("tenant"));
    assert_eq!(*got.properties.delivery_mode(), Some(2));
}

//! In the form of services on Watermill for Go.

use lapin::{
    BasicProperties,
    options::{BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use sagamill_bus::{Subscribe, Wire, amqp::Amqp};

use crate::fixture::{TRACE, client, connect, next, of_watermill, shared, topic, untraced};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_write_is_theirs_to_read() {
    let Some(url) = shared().await else { return };
    let bus = Amqp::options(&url).wire(Wire::Watermill).connect().await.unwrap();
    let (topic, message) = (topic("watermill"), of_watermill());
    let (_connection, channel) = client(&url).await;
    let options = QueueDeclareOptions::exclusive();
    let queue = channel
        .queue_declare("".into(), options, FieldTable::default())
        .await
        .unwrap();
    let (exchange, key) = ("sagamill".into(), topic.as_ref().into());
    let bound = channel.queue_bind(
        queue.name().clone(),
        exchange,
        key,
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.unwrap();
    let mut stream = connect(&url)
        .await
        .subscribe(Subscribe::new(topic.clone(), "group"))
        .await
        .unwrap();
    bus.publish_to(topic, [message.clone()]).await.unwrap();
    let got = channel.basic_get(queue.name().clone(), BasicGetOptions { no_ack: true });
    let got = got.await.unwrap().expect("it is there");
    let traced = got.properties.headers().clone().unwrap();
    let mut table = FieldTable::default();
    for (name, value) in traced.inner().iter().filter(|(name, _)| name.as_str() != TRACE) {
        table.insert(name.clone(), value.clone());
    }
    let mut metadata = FieldTable::default();
    let id = message.id.to_string();
    let marks = [("_watermill_message_uuid", id.as_str()), ("sagamill-key", "k")];
    for (name, value) in message.headers.iter().chain(marks) {
        metadata.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    assert_eq!(table, metadata);
    let bare = BasicProperties::default().with_delivery_mode(2);
    assert_eq!(got.properties, bare.with_headers(traced), "nothing but headers");
    let delivery = next(&mut stream).await;
    assert_eq!(untraced(delivery.message.clone()), message);
    // Delivered again, it has headers of the broker's that are none of the message's.
    delivery.retry(None).await.unwrap();
    let delivery = next(&mut stream).await;
    assert_eq!((untraced(delivery.message.clone()), delivery.attempt), (message, 2));
    delivery.ack().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_they_write_is_ours_to_read_and_to_send_on() {
    let Some(url) = shared().await else { return };
    let bus = Amqp::options(&url).wire(Wire::Watermill).connect().await.unwrap();
    let (topic, on) = (topic("theirs"), topic("onwards"));
    let mut stream = bus.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let mut onwards = bus.subscribe(Subscribe::new(on.clone(), "group")).await.unwrap();
    let (_connection, channel) = client(&url).await;
    // Watermill takes any text for an id.
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let mut table = FieldTable::default();
    for (name, value) in [("_watermill_message_uuid", id), ("cloudEvents_odd", " größe\n")] {
        table.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let properties = BasicProperties::default().with_headers(table);
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("sagamill".into(), topic.as_ref().into(), options, b"x", properties);
    let _ = sent.await.unwrap().await.unwrap();
    let delivery = next(&mut stream).await;
    let came = delivery.message.clone();
    assert_eq!(came.headers.get("cloudEvents_odd"), Some(" größe\n"));
    delivery.ack().await.unwrap();
    bus.publish_to(on, [came.clone()]).await.unwrap();
    let delivery = next(&mut onwards).await;
    assert_eq!(untraced(delivery.message.clone()), came);
    assert_eq!(
        came.headers.get("_watermill_message_uuid"),
        Some(id),
        "it goes on as it came"
    );
    delivery.ack().await.unwrap();
}

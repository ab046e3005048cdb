//! In the form of services on Watermill for Go.

#[path = "../broker/watermill.rs"]
mod form;

use lapin::{
    BasicProperties,
    options::{BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use sagamill_bus::{Bus, Subscribe, Wire, amqp::Amqp};

use self::form::{ID, THEIR_ID, TRACE};
use crate::fixture::{client, connect, next, shared, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_write_is_theirs_to_read() {
    let Some(url) = shared().await else { return };
    let bus = Amqp::options(&url).wire(Wire::Watermill).connect().await.unwrap();
    let (topic, message) = (topic("watermill"), form::message());
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
    let key = ("sagamill-key".to_owned(), "k".to_owned());
    for (name, value) in form::metadata(&message).into_iter().chain([key]) {
        metadata.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    assert_eq!(table, metadata);
    let bare = BasicProperties::default().with_delivery_mode(2);
    assert_eq!(got.properties, bare.with_headers(traced), "nothing but headers");
    let delivery = next(&mut stream).await;
    form::assert_is(&delivery, &message);
    // Delivered again, it has headers of the broker's that are none of the message's.
    delivery.retry(None).await.unwrap();
    let delivery = next(&mut stream).await;
    form::assert_is(&delivery, &message);
    assert_eq!(delivery.attempt, 2);
    delivery.ack().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_they_write_is_ours_to_read_and_to_send_on() {
    let Some(url) = shared().await else { return };
    let bus = Bus::connect(&format!("{url}?wire=watermill")).await.unwrap();
    let topic = topic("theirs");
    let mut stream = bus.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let (_connection, channel) = client(&url).await;
    let mut table = FieldTable::default();
    for (name, value) in [(ID, THEIR_ID), ("cloudEvents_odd", " größe\n")] {
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
    form::goes_on_as_it_came(&bus, came).await;
}

//! Messages and orders of others.

use async_nats::{HeaderMap, jetstream};
use sagamill_bus::{Message, Subscribe};

use crate::fixture::{client, connect, is_silent, next, shared, text, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_our_headers_is_readable() {
    let Some(url) = shared().await else { return };
    let (bus, topic) = (connect(&url).await, topic("foreign"));
    let mut stream = bus.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    let client = client(&url).await;
    let subject = format!("sagamill.topic.{topic}");
    client.publish(subject.clone(), "bare".into()).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("tenant", "north");
    client
        .publish_with_headers(subject, headers, "headed".into())
        .await
        .unwrap();
    let delivery = next(&mut stream).await;
    let (id, topic_of) = (delivery.message.id, delivery.topic.clone());
    assert_eq!((text(&delivery.message).as_str(), topic_of), ("bare", topic));
    delivery.retry(None).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let delivery = next(&mut stream).await;
        seen.push((text(&delivery.message), delivery.attempt));
        if seen.last().is_some_and(|(text, _)| text == "bare") {
            assert_eq!(delivery.message.id, id, "its id is the same on each delivery");
        } else {
            assert_eq!(delivery.message.headers.get("tenant"), Some("north"));
        }
        delivery.ack().await.unwrap();
    }
    seen.sort();
    assert_eq!(seen, [("bare".to_owned(), 2), ("headed".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_deleted_is_made_anew() {
    let Some(url) = shared().await else { return };
    let (bus, topic) = (connect(&url).await, topic("deleted"));
    let mut stream = bus.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    bus.publish_to(topic.clone(), [Message::new("0")]).await.unwrap();
    next(&mut stream).await.ack().await.unwrap();
    let context = jetstream::new(client(&url).await);
    let streams = context.get_stream("sagamill").await.unwrap();
    let mut names = streams.consumer_names();
    let mut own = None;
    while let Some(name) = futures_util::StreamExt::next(&mut names).await {
        let name = name.unwrap();
        own = own.or_else(|| {
            name.contains(&topic.to_string().replace('.', "_")[..40])
                .then_some(name)
        });
    }
    streams
        .delete_consumer(&own.expect("the group has a consumer"))
        .await
        .unwrap();
    bus.publish_to(topic, [Message::new("1")]).await.unwrap();
    // The new one begins at the oldest message again: nothing is lost, and what was done is repeated.
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let delivery = next(&mut stream).await;
        seen.push(text(&delivery.message));
        delivery.ack().await.unwrap();
    }
    assert_eq!(seen, ["0", "1"]);
    assert!(is_silent(&mut stream).await);
}

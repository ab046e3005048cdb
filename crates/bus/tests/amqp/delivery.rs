//! What is delivered, and to whom.

use std::time::Duration;

use sagamill_bus::{Message, Subscribe};

use crate::fixture::{acknowledge, connect, is_silent, next, number, shared, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handler_that_then_fails_gets_its_message_again() {
    let Some(url) = shared().await else { return };
    let (slow, other, topic) = (connect(&url).await, connect(&url).await, topic("slow"));
    let mut stream = slow.subscribe(Subscribe::new(topic.clone(), "group")).await.unwrap();
    slow.publish_to(topic.clone(), [Message::new("0")]).await.unwrap();
    let delivery = next(&mut stream).await;
    let mut elsewhere = other.subscribe(Subscribe::new(topic, "group")).await.unwrap();
    // Longer than a connection without a sign of life would last.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(is_silent(&mut elsewhere).await, "it was given to another");
    delivery.retry(None).await.unwrap();
    let delivery = next(&mut stream).await;
    assert_eq!(delivery.attempt, 2);
    delivery.ack().await.unwrap();
    assert!(is_silent(&mut stream).await && is_silent(&mut elsewhere).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mandatory_messages_among_others_are_told_apart() {
    let Some(url) = shared().await else { return };
    let (bus, heard, unheard) = (connect(&url).await, topic("heard"), topic("unheard"));
    let mandatory = |n: usize| Message::new(n.to_string()).header("sagamill-mandatory", "1");
    let mut stream = bus.subscribe(Subscribe::new(heard.clone(), "group")).await.unwrap();
    let (bus_of_one, bus_of_other) = (bus.clone(), bus.clone());
    let publish = |bus: sagamill_bus::Bus, topic: sagamill_bus::Topic| async move {
        bus.publish_each(&topic, (0..200).map(mandatory).collect()).await
    };
    let (sent, refused) = tokio::join!(publish(bus_of_one, heard), publish(bus_of_other, unheard.clone()));
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    let nobody = |result: &sagamill_bus::Result<_>| matches!(result, Err(sagamill_bus::Error::NoSubscriber { .. }));
    assert!(refused.iter().all(nobody), "{refused:?}");
    assert_eq!(acknowledge(&mut stream, 200).await.len(), 200);
    // To nobody, and nobody minds.
    bus.publish_to(unheard, [Message::new("0")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_behind_one_key_does_not_hold_up_others() {
    let Some(url) = shared().await else { return };
    let (bus, topic) = (connect(&url).await, topic("crowd"));
    let request = Subscribe::new(topic.clone(), "group").max_in_flight(4);
    let mut stream = bus.subscribe(request).await.unwrap();
    let crowd = (0..200).map(|n| Message::new(n.to_string()).key("one"));
    bus.publish_to(topic.clone(), crowd).await.unwrap();
    let held = next(&mut stream).await;
    bus.publish_to(topic, [Message::new("200").key("two")]).await.unwrap();
    let delivery = next(&mut stream).await;
    assert_eq!(number(&delivery.message), 200);
    delivery.ack().await.unwrap();
    held.ack().await.unwrap();
    assert!(acknowledge(&mut stream, 199).await.into_iter().eq(1..200));
}

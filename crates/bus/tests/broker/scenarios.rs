//! What is delivered, and to whom, over a broker of any kind. Groups subscribe before anything is published: not every broker
//! keeps for a group what came before its first process.

use std::{collections::BTreeSet, time::Duration};

use sagamill_bus::{Error, Message, Order, OrderScope, Subscribe};

use crate::fixture::{Took, acknowledge, connect, is_silent, next, number, shared, topic};

fn numbered(count: usize) -> impl Iterator<Item = Message> {
    (0..count).map(|n| Message::new(n.to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_after_ten_of_a_hundred_leaves_ninety() {
    let Some(url) = shared().await else { return };
    let _took = Took::new("a close in the middle");
    let (first, topic) = (connect(&url).await, topic("close"));
    let request = Subscribe::new(topic.clone(), "group").max_in_flight(10);
    let mut stream = first.subscribe(request.clone()).await.unwrap();
    first.publish_to(topic, numbered(100)).await.unwrap();
    let done: BTreeSet<usize> = acknowledge(&mut stream, 10).await.into_iter().collect();
    first.close().await.unwrap();
    drop(stream);
    let second = connect(&url).await;
    let mut stream = second.subscribe(request).await.unwrap();
    let rest: BTreeSet<usize> = acknowledge(&mut stream, 90).await.into_iter().collect();
    assert!(done.is_disjoint(&rest), "what was acknowledged does not come again");
    assert!(is_silent(&mut stream).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_comes_again_in_order_and_uncounted() {
    let Some(url) = shared().await else { return };
    let (bus, topic) = (connect(&url).await, topic("back"));
    let keyed = (0..20).map(|n| Message::new(n.to_string()).key("one"));
    let request = Subscribe::new(topic.clone(), "group");
    let mut stream = bus.subscribe(request.clone()).await.unwrap();
    bus.publish_to(topic, keyed).await.unwrap();
    let held = next(&mut stream).await;
    drop(stream);
    let mut stream = bus.subscribe(request).await.unwrap();
    for expected in 0..20 {
        let delivery = next(&mut stream).await;
        assert_eq!((number(&delivery.message), delivery.attempt), (expected, 1));
        delivery.ack().await.unwrap();
    }
    assert!(held.ack().await.is_err(), "it was given to another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_one_connection_keep_the_order_of_a_key_among_them() {
    let Some(url) = shared().await else { return };
    let (bus, topic) = (connect(&url).await, topic("members"));
    let request = Subscribe::new(topic.clone(), "group").order_scope(OrderScope::Process);
    let mut one = bus.subscribe(request.clone()).await.unwrap();
    let mut two = bus.subscribe(request.clone()).await.unwrap();
    let keyed = (0..3).map(|n| Message::new(n.to_string()).key("one"));
    bus.publish_to(topic, keyed).await.unwrap();
    for expected in 0..3 {
        let delivery = tokio::select! {
            delivery = next(&mut one) => delivery,
            delivery = next(&mut two) => delivery,
        };
        assert_eq!(number(&delivery.message), expected);
        assert!(
            is_silent(&mut one).await && is_silent(&mut two).await,
            "one of a key at a time"
        );
        delivery.ack().await.unwrap();
    }
    let differs = bus.subscribe(request.order(Order::None)).await.map(drop);
    assert!(matches!(differs, Err(Error::Unsupported { .. })), "{differs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_travel_to_another_process() {
    let Some(url) = shared().await else { return };
    let (first, topic) = (connect(&url).await, topic("travel"));
    let request = Subscribe::new(topic.clone(), "group").order(Order::None);
    let mut stream = first.subscribe(request.clone()).await.unwrap();
    first.publish_to(topic, [Message::new("0")]).await.unwrap();
    next(&mut stream).await.retry(None).await.unwrap();
    // This one goes back to the server, which delays it.
    next(&mut stream)
        .await
        .retry(Some(Duration::from_millis(300)))
        .await
        .unwrap();
    first.close().await.unwrap();
    let second = connect(&url).await;
    let mut stream = second.subscribe(request).await.unwrap();
    let delivery = next(&mut stream).await;
    assert_eq!(delivery.attempt, 3);
    delivery.ack().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_sees_topics_that_come_later() {
    let Some(url) = shared().await else { return };
    let (bus, base) = (connect(&url).await, topic("pattern"));
    let mut stream = bus
        .subscribe(Subscribe::new(format!("{base}.*"), "group"))
        .await
        .unwrap();
    for name in ["card", "cash"] {
        bus.publish_to(format!("{base}.{name}"), [Message::new("0")])
            .await
            .unwrap();
        let delivery = next(&mut stream).await;
        assert_eq!(delivery.topic.to_string(), format!("{base}.{name}"));
        delivery.dead("enough").await.unwrap();
        // It is requeued to where it came from, although the group is subscribed to a pattern.
        let dead = bus.dead_letters(format!("{base}.{name}"), "group").unwrap();
        let id = dead.list(None, 1).await.unwrap()[0].message.id;
        dead.requeue(id).await.unwrap();
        let delivery = next(&mut stream).await;
        assert_eq!((delivery.message.id, delivery.attempt), (id, 1));
        delivery.ack().await.unwrap();
    }
}

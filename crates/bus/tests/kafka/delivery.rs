//! What is delivered, and to whom.

use std::{collections::BTreeSet, time::Duration};

use sagamill_bus::{Error, Message, OrderScope, Subscribe};

use crate::fixture::{Took, acknowledge, connect, is_silent, next, number, options, shared, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_handled_while_its_partition_goes_is_stale_and_comes_to_the_next() {
    let Some(url) = shared().await else { return };
    let _took = Took::new("a partition that goes");
    let topic = topic("rebalance");
    let hasty = options(&url).drain_within(Duration::from_millis(300));
    let (one, two) = (hasty.connect().await.unwrap(), connect(&url).await);
    let request = Subscribe::new(topic.clone(), "group").order_scope(OrderScope::Group);
    let mut stream = one.subscribe(request.clone()).await.unwrap();
    one.publish_to(topic, (0..30).map(|n| Message::new(n.to_string()).key(n)))
        .await
        .unwrap();
    let mut held = Vec::new();
    while held.len() < 30 {
        held.push(next(&mut stream).await);
    }
    let mut elsewhere = two.subscribe(request).await.unwrap();
    let mut got = BTreeSet::new();
    let first = next(&mut elsewhere).await;
    assert_eq!(first.attempt, 1, "what goes with its partition was no attempt");
    got.insert(number(&first.message));
    first.ack().await.unwrap();
    let mut stale = BTreeSet::new();
    for delivery in held {
        let number = number(&delivery.message);
        match delivery.ack().await {
            Ok(()) => assert!(got.insert(number), "{number} was settled twice"),
            Err(Error::Stale) => assert!(stale.insert(number)),
            Err(error) => panic!("{number}: {error}"),
        }
    }
    assert!(!stale.is_empty(), "a partition has gone");
    while got.len() < 30 {
        let delivery = next(&mut elsewhere).await;
        assert_eq!(delivery.attempt, 1);
        assert!(got.insert(number(&delivery.message)), "it was settled before");
        delivery.ack().await.unwrap();
    }
    assert!(is_silent(&mut elsewhere).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_message_holds_up_what_is_further_than_the_span_and_nothing_nearer() {
    const SPAN: usize = 50;
    let Some(url) = shared().await else { return };
    let _took = Took::new("a slow message");
    let topic = topic("span");
    let bus = options(&url).partitions(1).span(SPAN).connect().await.unwrap();
    bus.publish_to(topic.clone(), (0..200).map(|n| Message::new(n.to_string()).key(n)))
        .await
        .unwrap();
    let mut stream = bus.subscribe(Subscribe::new(topic, "group")).await.unwrap();
    let slow = next(&mut stream).await;
    assert_eq!(number(&slow.message), 0);
    for expected in 1..SPAN {
        let delivery = next(&mut stream).await;
        assert_eq!(number(&delivery.message), expected);
        delivery.ack().await.unwrap();
    }
    assert!(is_silent(&mut stream).await, "it goes on too far");
    slow.ack().await.unwrap();
    assert_eq!(acknowledge(&mut stream, 200 - SPAN).await.len(), 200 - SPAN);
}

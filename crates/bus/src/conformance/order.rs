//! Order per key, where it is promised.

use std::time::Duration;

use futures_util::future::join_all;

use super::{
    Harness,
    fixture::{Fixture, Inbox, keyed, number},
};
use crate::{Order, OrderScope, Subscribe};

/// 480 messages over 16 keys, read by ten members where the order holds over a group, else by one: each key in order.
pub async fn messages_of_a_key_are_handled_in_order<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    if !fixture.keeps_order() {
        return;
    }
    let members = if fixture.promised.order_scope == OrderScope::Group {
        10
    } else {
        1
    };
    let mut inboxes = Vec::new();
    for _ in 0..members {
        let bus = harness.connect().await;
        let request = Subscribe::new(fixture.topic.clone(), "group").order_scope(fixture.promised.order_scope);
        inboxes.push(fixture.subscribe_on(&bus, request).await);
    }
    fixture.publish(keyed(0..480, 16)).await;
    let handled = tokio::sync::Mutex::new(Vec::new());
    let read = |mut inbox: Inbox| {
        let handled = &handled;
        async move {
            while let Some(delivery) = inbox.maybe_next().await {
                handled.lock().await.push(number(&delivery.message));
                tokio::task::yield_now().await;
                delivery.ack().await.expect("the ack is taken");
            }
        }
    };
    join_all(inboxes.into_iter().map(read)).await;
    let handled = handled.into_inner();
    for key in 0..16 {
        let mut of_key: Vec<usize> = handled.iter().copied().filter(|n| n % 16 == key).collect();
        // Repeats may come at any time; the first deliveries are in order.
        let mut seen = std::collections::BTreeSet::new();
        of_key.retain(|n| seen.insert(*n));
        assert!(of_key.is_sorted() && of_key.len() == 30, "key {key}: {of_key:?}");
    }
}

/// The second message of a key is not delivered before the first is settled.
pub async fn the_next_of_a_key_waits_for_the_settlement<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    if !fixture.keeps_order() {
        return;
    }
    let mut inbox = fixture.subscribe("group").await;
    fixture.publish(keyed(0..2, 1)).await;
    let first = inbox.next().await;
    assert!(inbox.is_silent().await, "the second came before the first was settled");
    first.ack().await.expect("the ack is taken");
    assert_eq!(number(&inbox.ack(1).await[0]), 1);
}

/// A message that is retried at once comes before the later ones of its key.
pub async fn an_immediate_retry_keeps_the_order_of_its_key<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    if !fixture.keeps_order() {
        return;
    }
    let mut inbox = fixture.subscribe("group").await;
    fixture.publish(keyed(0..10, 1)).await;
    let mut handled = Vec::new();
    while handled.len() < 10 {
        let delivery = inbox.next().await;
        if delivery.attempt <= 2 {
            delivery.retry(None).await.expect("the retry is taken");
        } else {
            handled.push(number(&delivery.message));
            delivery.ack().await.expect("the ack is taken");
        }
    }
    assert!(handled.is_sorted(), "{handled:?}");
}

/// A message that waits for its next attempt holds its own key and no other; without order it holds none.
pub async fn a_delayed_retry_holds_its_key_only<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let wait = Duration::from_secs(1);
    if fixture.keeps_order() {
        let mut inbox = fixture.subscribe("ordered").await;
        // 0 and 2 share a key, 1 has its own.
        fixture.publish(keyed(0..3, 2)).await;
        let mut heads = inbox.take(2).await;
        heads.sort_by_key(|delivery| number(&delivery.message));
        let (second, first) = (heads.remove(1), heads.remove(0));
        first.retry(Some(wait)).await.expect("the retry is taken");
        assert_eq!(number(&second.message), 1, "strangers are not held");
        second.ack().await.expect("the ack is taken");
        let rest: Vec<usize> = inbox.ack(1).await.iter().map(number).collect();
        // Message 0 was seen before, so it is no first delivery; 2 comes after it.
        assert_eq!((rest, inbox.duplicates()), (vec![2], 1));
    }
    if fixture.promised.delay {
        let request = Subscribe::new(fixture.topic.clone(), "unordered")
            .order(Order::None)
            .start(crate::Start::Latest);
        let mut inbox = fixture.subscribe_to(request).await;
        fixture.publish(keyed(3..5, 1)).await;
        let first = inbox.next().await;
        let id = first.message.id;
        first.retry(Some(wait)).await.expect("the retry is taken");
        let passed = inbox.next().await;
        assert_ne!(passed.message.id, id, "later messages pass");
        passed.ack().await.expect("the ack is taken");
        let again = inbox.next().await;
        assert_eq!(again.message.id, id);
        again.ack().await.expect("the ack is taken");
    }
}

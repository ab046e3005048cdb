//! Each way a delivery can end.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Harness,
    fixture::{Fixture, number, numbered},
};
use crate::{Error, Message, Subscribe, headers::name, limit};

/// What was acked is done with, also for the next subscription of the group.
pub async fn an_acked_message_does_not_come_again<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    fixture.publish(numbered(0..5)).await;
    inbox.ack_numbers(0..5).await;
    assert!(inbox.is_silent().await);
    drop(inbox);
    assert!(fixture.subscribe("group").await.is_silent().await);
}

/// Of a hundred messages the first two are retried: all arrive, and those two say that it is their second attempt.
pub async fn a_retried_message_comes_again<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    fixture.publish(numbered(0..100)).await;
    let mut retried = Vec::new();
    for _ in 0..2 {
        let delivery = inbox.next().await;
        assert_eq!(delivery.attempt, 1);
        retried.push(delivery.message.id);
        delivery.retry(None).await.expect("the retry is taken");
    }
    let mut left = 100;
    while left > 0 {
        let delivery = inbox.next().await;
        let attempt = if retried.contains(&delivery.message.id) { 2 } else { 1 };
        assert_eq!(delivery.attempt, attempt);
        delivery.ack().await.expect("the ack is taken");
        left -= 1;
    }
}

/// A retry after a time comes no sooner.
pub async fn a_delayed_retry_is_not_early<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    fixture.publish([Message::new("0").key("a")]).await;
    let delivery = inbox.next().await;
    let (start, wait) = (Instant::now(), Duration::from_millis(700));
    delivery.retry(Some(wait)).await.expect("the retry is taken");
    let again = inbox.next().await;
    // Some brokers count whole milliseconds.
    assert!(
        start.elapsed() + Duration::from_millis(2) >= wait,
        "after {:?}",
        start.elapsed()
    );
    assert_eq!(again.attempt, 2);
    again.ack().await.expect("the ack is taken");
}

/// A delivery that is dropped, as by a panic, comes again, and was an attempt.
pub async fn a_dropped_delivery_comes_again_and_counts<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    fixture.publish(numbered(0..1)).await;
    for attempt in 1..=3 {
        let delivery = inbox.next().await;
        assert_eq!(delivery.attempt, attempt);
        drop(delivery);
    }
    inbox.next().await.ack().await.expect("the ack is taken");
    assert!(inbox.is_silent().await);
}

/// A delivery that is settled after its stream is gone is stale, and its message comes to somebody else, at the same attempt.
pub async fn a_late_settlement_is_stale<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    fixture.publish(numbered(0..1)).await;
    let late = inbox.next().await;
    drop(inbox);
    let mut successor = fixture.subscribe("group").await;
    let delivery = successor.next().await;
    assert_eq!(delivery.attempt, 1, "what is given back was no attempt");
    assert!(matches!(late.ack().await, Err(Error::Stale)));
    delivery.ack().await.expect("the ack is taken");
    assert!(successor.is_silent().await);
}

/// A dead letter keeps its id, key, headers and payload, and says why it was given up and after how many attempts.
pub async fn a_dead_letter_keeps_its_story<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    let message = Message::new("poison").key("a").header("tenant", "north");
    fixture.publish([message.clone(), Message::new("1").key("a")]).await;
    for _ in 0..2 {
        inbox.next().await.retry(None).await.expect("the retry is taken");
    }
    inbox.next().await.dead("no such sku").await.expect("it is given up");
    assert_eq!(number(&inbox.ack(1).await[0]), 1, "its key moves on");
    let dead = fixture
        .bus
        .dead_letters(fixture.topic.clone(), "group")
        .expect("there are dead letters");
    let letters = dead.list(None, 10).await.expect("they are listed");
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.last.reason.as_str(), letter.last.attempts), ("no such sku", 3));
    assert!(letter.history.is_empty());
    assert_eq!((letter.message.id, &letter.message.key), (message.id, &message.key));
    assert_eq!(letter.message.payload, message.payload);
    assert_eq!(letter.message.headers.get("tenant"), Some("north"));
    let queues = fixture.bus.dead_letter_queues().await.expect("they are listed");
    let queue = queues
        .iter()
        .find(|queue| queue.topic == fixture.topic)
        .expect("the topic is among them");
    assert_eq!((queue.group.as_str(), queue.count), ("group", 1));
    dead.discard(message.id).await.expect("it is discarded");
    assert!(matches!(dead.get(message.id).await, Err(Error::NoDeadLetter { .. })));
    assert!(matches!(
        dead.requeue(message.id).await,
        Err(Error::NoDeadLetter { .. })
    ));
}

/// A requeued dead letter comes to its own group at once, under the same id, as a new generation at its first attempt.
pub async fn a_requeued_dead_letter_comes_again_to_its_group_alone<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    fixture.publish(numbered(0..1)).await;
    let mut bystander = None;
    if fixture.promised.groups && fixture.promised.replay {
        let mut other = fixture
            .subscribe_to(Subscribe::new(fixture.topic.clone(), "bystander"))
            .await;
        other.ack_numbers(0..1).await;
        bystander = Some(other);
    }
    let first = inbox.next().await;
    let id = first.message.id;
    first.dead("once").await.expect("it is given up");
    let dead = fixture
        .bus
        .dead_letters(fixture.topic.clone(), "group")
        .expect("there are dead letters");
    dead.requeue(id).await.expect("it is requeued");
    let again = inbox.next().await;
    assert_eq!((again.message.id, again.attempt), (id, 1));
    assert_eq!(again.message.headers.get(name::GENERATION), Some("1"));
    again.dead("twice").await.expect("it is given up");
    let letter = dead.get(id).await.expect("it is there again");
    let reasons: Vec<&str> = letter.history.iter().map(|death| death.reason.as_str()).collect();
    assert_eq!(
        (reasons.as_slice(), letter.last.reason.as_str()),
        (["once"].as_slice(), "twice")
    );
    dead.requeue(id).await.expect("it is requeued");
    let again = inbox.next().await;
    assert_eq!(again.message.headers.get(name::GENERATION), Some("2"));
    again.ack().await.expect("the ack is taken");
    if let Some(mut bystander) = bystander {
        assert!(bystander.is_silent().await);
    }
}

/// An edited dead letter has its new payload, and all else as it was, also when it dies again; one that is too large is refused
/// and stays.
pub async fn an_edited_dead_letter_comes_again_with_its_new_payload<H: Harness>(harness: &H) {
    let fixture = Fixture::new(harness).await;
    let mut inbox = fixture.subscribe("group").await;
    let message = Message::new("spoilt").key("key").header("colour", "red");
    let id = message.id;
    fixture.publish(vec![message]).await;
    inbox.next().await.dead("once").await.expect("it is given up");
    let dead = fixture
        .bus
        .dead_letters(fixture.topic.clone(), "group")
        .expect("there are dead letters");
    let too_large = dead.requeue_edited(id, vec![0; limit::PAYLOAD + 1]).await;
    assert!(matches!(too_large, Err(Error::TooLarge { .. })), "{too_large:?}");
    dead.requeue_edited(id, "mended").await.expect("it is requeued");
    let again = inbox.next().await;
    assert_eq!(again.message.id, id);
    assert_eq!(again.message.payload, "mended");
    assert_eq!(again.message.key.as_ref().map(|key| &*key.0), Some("key"));
    assert_eq!(again.message.headers.get("colour"), Some("red"));
    again.dead("twice").await.expect("it is given up");
    let letter = dead.get(id).await.expect("it is there again");
    assert_eq!(
        (letter.message.payload.as_ref(), letter.history.len()),
        (&b"mended"[..], 1)
    );
}

//! Receivers in this process share a subscription, and each settles its part.

use sagamill_bus::{Delivery, Error, memory::Memory, prelude::*};
use tokio::sync::mpsc;

use crate::kit::{Running, SECOND, quick, reasons, settle};

fn text(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.message.payload).unwrap()
}

/// A router over one topic with so many receivers.
fn receivers<const N: usize>() -> (Router, [mpsc::Receiver<Delivery>; N]) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..N).map(|_| mpsc::channel(1)).unzip();
    let router = senders
        .into_iter()
        .fold(Router::new(), |router, sender| router.hand_to("order", sender));
    (router.retry(quick(3)), receivers.try_into().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_message_is_acknowledged_when_all_receivers_are_done_and_not_before() {
    let memory = Memory::new();
    let bus = memory.connect();
    let (router, [mut first, mut second]) = receivers();
    let running = Running::start(router, &bus).await;
    bus.publish_to("order", [Message::new("tea").key("k")]).await.unwrap();
    let (one, in_flight) = (first.recv().await.unwrap(), || memory.backlog()[0].in_flight);
    assert_eq!((text(&one), one.attempt), ("tea", 1));
    one.ack().await.unwrap();
    let two = second.recv().await.unwrap();
    settle().await;
    assert_eq!((text(&two), in_flight()), ("tea", 1));
    two.ack().await.unwrap();
    settle().await;
    assert_eq!(in_flight(), 0);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_those_who_are_not_done() {
    let bus = Bus::memory();
    let (router, [mut first, mut second]) = receivers();
    let running = Running::start(router, &bus).await;
    bus.publish_to("order", [Message::new("tea")]).await.unwrap();
    first.recv().await.unwrap().ack().await.unwrap();
    second.recv().await.unwrap().retry(Some(SECOND)).await.unwrap();
    drop(second.recv().await.unwrap());
    let third = second.recv().await.unwrap();
    assert_eq!(third.attempt, 3);
    third.dead("stale tea").await.unwrap();
    settle().await;
    assert!(first.try_recv().is_err() && second.try_recv().is_err());
    assert_eq!(reasons(&bus, "order").await, ["stale tea"]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_gone_loses_nothing_in_silence() {
    let bus = Bus::memory();
    let (router, [mut first, second]) = receivers();
    drop(second);
    let running = Running::start(router, &bus).await;
    bus.publish_to("order", [Message::new("tea")]).await.unwrap();
    first.recv().await.unwrap().ack().await.unwrap();
    settle().await;
    let reasons = reasons(&bus, "order").await;
    assert!(
        reasons.len() == 1 && reasons[0].ends_with("the receiver in this process is gone"),
        "{reasons:?}"
    );
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_receiver_at_a_stop_is_given_back_and_settled_by_nobody() {
    let memory = Memory::new();
    let bus = memory.connect();
    let (router, [mut first]) = receivers();
    let running = Running::start(router.drain(SECOND), &bus).await;
    let messages = ["tea", "coffee", "water"].map(Message::new);
    bus.publish_to("order", messages).await.unwrap();
    settle().await;
    let held = first.recv().await.unwrap();
    running.stop().await.unwrap();
    assert!(matches!(held.ack().await, Err(Error::Stale)));
    let backlog = &memory.backlog()[0];
    assert_eq!((backlog.waiting, backlog.in_flight), (3, 0));
}

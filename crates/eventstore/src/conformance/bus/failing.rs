//! Databases that fail, logs that lose their tail, and relays that go in a circle.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use sagamill_bus::{Error, Message, Order};
use tokio::task::JoinSet;

use super::process::{GROUP, Process, TOPIC, keyed, next, number, request, within};
use crate::{
    Append, Expected, NewEvent, Position, Relay,
    conformance::{Paced, Subject},
    transport::WRITTEN_MAX,
};

/// What became of messages cannot be written for a while, or is written and nobody is told: every settlement is taken once
/// the database answers, and none is lost.
pub async fn settlements_survive_an_outage(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let process = Process::start(subject).await;
    let mut deliveries = process.subscribe(request()).await;
    process.publish(keyed(0..30, 30)).await;
    process.fail_notes(5);
    let mut attempts = [0_u32; 30];
    let mut ended = 0;
    while ended < 30 {
        let delivery = next(&mut deliveries).await;
        let n = number(&delivery.message);
        attempts[n] += 1;
        assert_eq!(delivery.attempt, attempts[n]);
        match (n % 3, delivery.attempt) {
            (_, 1) => delivery.retry(None).await.unwrap(),
            (0, _) => {
                delivery.dead("enough").await.unwrap();
                ended += 1;
            }
            _ => {
                delivery.ack().await.unwrap();
                ended += 1;
            }
        }
    }
    let letters = process
        .bus
        .dead_letters(TOPIC, GROUP)
        .unwrap()
        .list(None, 100)
        .await
        .unwrap();
    let mut dead: Vec<_> = letters.iter().map(|letter| number(&letter.message)).collect();
    dead.sort_unstable();
    assert_eq!(dead, (0..10).map(|n| n * 3).collect::<Vec<_>>());
    assert!(letters.iter().all(|letter| letter.last.attempts == 2));
    process.end().await;
    let process = Process::start(subject).await;
    let mut deliveries = process.subscribe(request()).await;
    assert!(
        within(&mut deliveries, subject.ttl()).await.is_none(),
        "nothing comes again"
    );
    process.end().await;
}

/// A settlement that can never be written says so, and its message comes again.
pub async fn a_settlement_that_fails_for_long_says_so(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let process = Process::start(subject).await;
    let mut deliveries = process.subscribe(request()).await;
    process.publish(keyed(0..1, 1)).await;
    let first = next(&mut deliveries).await;
    process.fail_notes(7);
    let failed = first.retry(Some(Duration::from_millis(10))).await;
    assert!(matches!(&failed, Err(error) if error.is_retryable()), "{failed:?}");
    let again = next(&mut deliveries).await;
    assert_eq!(again.attempt, 2);
    again.ack().await.unwrap();
    process.end().await;
}

/// Everything fails at first and is to be tried later: so many messages wait at most, and all are handled in the end.
pub async fn a_flood_of_failures_is_bounded(subject: Arc<dyn Subject>) {
    const MESSAGES: usize = WRITTEN_MAX + 500;
    let subject = &Paced::of(subject);
    let process = Process::start(subject).await;
    let unordered = request().order(Order::None);
    let in_flight = unordered.max_in_flight;
    let mut deliveries = process.subscribe(unordered).await;
    for chunk in 0..MESSAGES / 500 {
        process.publish(keyed(chunk * 500..(chunk + 1) * 500, 100)).await;
    }
    let (mut waiting, mut most, mut acked) = (0, 0, 0);
    let mut settling = JoinSet::new();
    while acked < MESSAGES {
        let delivery = next(&mut deliveries).await;
        if delivery.attempt == 1 {
            waiting += 1;
            settling.spawn(delivery.retry(Some(subject.ttl() * 3)));
        } else {
            acked += 1;
            waiting -= 1;
            settling.spawn(delivery.ack());
        }
        most = most.max(waiting);
        while let Some(settled) = settling.try_join_next() {
            settled.unwrap().unwrap();
        }
    }
    assert!(most <= WRITTEN_MAX + in_flight, "{most} waited at a time");
    while let Some(settled) = settling.join_next().await {
        settled.unwrap().unwrap();
    }
    process.end().await;
}

/// A log that lost its tail is told to whoever subscribes; after it was rewound, nothing that was known of the lost messages
/// is taken for what stands in their place.
pub async fn a_lost_tail_is_told_and_what_was_known_of_it_is_void(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let process = Process::start(subject).await;
    let mut deliveries = process.subscribe(request()).await;
    // One key, so that one shard has them all.
    process.publish(keyed(0..3, 1)).await;
    for _ in 0..2 {
        next(&mut deliveries).await.ack().await.unwrap();
    }
    next(&mut deliveries).await.retry(None).await.unwrap();
    next(&mut deliveries).await.retry(None).await.unwrap();
    assert_eq!(next(&mut deliveries).await.attempt, 3);
    drop(deliveries);
    process.end().await;
    subject.lose_tail(Position(2)).await;
    let process = Process::start(subject).await;
    process.publish(keyed(7..9, 1)).await;
    let refused = process.bus.subscribe(request()).await.map(drop);
    assert!(matches!(refused, Err(Error::Unusable(_))), "{refused:?}");
    process.store.rewind(&format!("bus/{TOPIC}/{GROUP}")).await.unwrap();
    let mut deliveries = process.subscribe(request()).await;
    let mut got = Vec::new();
    while got.last() != Some(&8) {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.attempt, 1);
        got.push(number(&delivery.message));
        delivery.ack().await.unwrap();
    }
    // How far back the common place is depends on when checkpoints were saved.
    assert_eq!(got[got.len() - 2..], [7, 8]);
    assert!(within(&mut deliveries, subject.ttl()).await.is_none());
    process.end().await;
    let process = Process::start(subject).await;
    let mut deliveries = process.subscribe(request()).await;
    assert!(within(&mut deliveries, subject.ttl()).await.is_none());
    process.end().await;
}

/// A log is a bus for what it holds itself: an event with a topic is delivered as the relay would send it, and a relay from
/// the log into itself adds nothing.
pub async fn a_relay_into_its_own_log_adds_nothing(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let process = Process::start(subject).await;
    let mut deliveries = process.subscribe(request()).await;
    let event = NewEvent {
        topic: Some(TOPIC.into()),
        ..NewEvent::new("order.placed", "0")
    };
    let append = Append {
        stream: "order-1".into(),
        expected: Expected::Any,
        events: vec![event.clone()],
    };
    process.store.commit(append).await.unwrap();
    process.publish(vec![Message::new("1").key("order-1")]).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relay = Relay::new(&process.store, &process.bus).lease(subject.ttl());
    let running = tokio::spawn(relay.run(async { stopped.await.unwrap_or_default() }));
    let first = next(&mut deliveries).await;
    assert_eq!(
        (first.message.id.0, &first.message.key),
        (event.id, &Some("order-1".into()))
    );
    assert_eq!(first.message.headers.get("ce-type"), Some("order.placed"));
    first.ack().await.unwrap();
    let second = next(&mut deliveries).await;
    assert_eq!(number(&second.message), 1);
    second.ack().await.unwrap();
    while relayed(&process).await != Some(Position(2)) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(process.store.head().await.unwrap().position, Position(2));
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    assert!(within(&mut deliveries, subject.ttl()).await.is_none());
    process.end().await;
}

/// How far the relay is.
async fn relayed(process: &Process) -> Option<Position> {
    let all = process.store.checkpoints().await.unwrap();
    let of = all.into_iter().filter(|of| of.name == "relay");
    of.map(|of| of.at.position).min()
}

/// A store that is closed under its bus ends the streams.
pub async fn closing_the_store_ends_the_streams(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    let bus = store.bus();
    let mut deliveries = bus.subscribe(request()).await.unwrap();
    if store.backend().name() == "memory" {
        // A log in memory has nothing to close.
        bus.clone().close().await.unwrap();
    } else {
        store.close().await;
        let published = bus.publish_to(TOPIC, keyed(0..1, 1)).await;
        assert!(matches!(published, Err(Error::Closed)), "{published:?}");
    }
    while let Some(delivery) = deliveries.next().await {
        assert!(delivery.is_err());
    }
    bus.close().await.unwrap_or_default();
}

//! What is particular to this transport; what all transports promise is in the conformance suite.

use std::{future::poll_fn, task::Poll, time::Duration};

use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout};

use super::{Faults, Limits, Memory};
use crate::{Bus, Deliveries, Delivery, Error, Message, Order, Result, Start, Subscribe, headers::name};

const SECOND: Duration = Duration::from_secs(1);

fn message(text: impl Into<String>) -> Message {
    Message::new(text.into())
}
fn keyed(key: &'static str, text: impl Into<String>) -> Message {
    message(text).key(key)
}
fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.payload.to_vec()).unwrap()
}
async fn subscribe(bus: &Bus, group: &str) -> Deliveries {
    bus.subscribe(Subscribe::new("order", group)).await.unwrap()
}
async fn next(deliveries: &mut Deliveries) -> Delivery {
    timeout(60 * SECOND, deliveries.next())
        .await
        .expect("a delivery is due")
        .unwrap()
        .unwrap()
}
async fn nothing(deliveries: &mut Deliveries) -> bool {
    tokio::task::yield_now().await;
    deliveries.next().now_or_never().is_none()
}
async fn publish(bus: &Bus, batch: impl IntoIterator<Item = Message>) -> Result<()> {
    bus.publish_to("order", batch).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_retry_holds_its_key_and_no_other() {
    let bus = Bus::memory();
    let mut deliveries = subscribe(&bus, "g").await;
    publish(&bus, [keyed("a", "a1"), keyed("a", "a2"), keyed("b", "b1")])
        .await
        .unwrap();
    let first = next(&mut deliveries).await;
    assert_eq!((text(&first).as_str(), first.attempt), ("a1", 1));
    let start = Instant::now();
    first.retry(Some(5 * SECOND)).await.unwrap();
    let stranger = next(&mut deliveries).await;
    assert_eq!(text(&stranger), "b1");
    stranger.ack().await.unwrap();
    let again = next(&mut deliveries).await;
    assert_eq!(
        (text(&again).as_str(), again.attempt, start.elapsed()),
        ("a1", 2, 5 * SECOND)
    );
    assert!(nothing(&mut deliveries).await);
    again.ack().await.unwrap();
    assert_eq!(text(&next(&mut deliveries).await), "a2");
}

#[tokio::test(start_paused = true)]
async fn without_order_a_delayed_retry_lets_later_ones_pass() {
    let bus = Bus::memory();
    let mut deliveries = bus
        .subscribe(Subscribe::new("order", "g").order(Order::None))
        .await
        .unwrap();
    publish(&bus, [keyed("a", "a1"), keyed("a", "a2")]).await.unwrap();
    next(&mut deliveries).await.retry(Some(SECOND)).await.unwrap();
    let passed = next(&mut deliveries).await;
    assert_eq!(text(&passed), "a2");
    assert_eq!(text(&next(&mut deliveries).await), "a1");
}

#[tokio::test(start_paused = true)]
async fn a_publish_waits_while_a_group_is_full_and_goes_on_when_a_quarter_is_free() {
    let bus = Memory::with(Limits {
        queue: 4,
        ..Limits::default()
    })
    .connect();
    let mut slow = subscribe(&bus, "slow").await;
    let mut fast = subscribe(&bus, "fast").await;
    publish(&bus, (0..4).map(|n| message(n.to_string()))).await.unwrap();
    let mut waiting = std::pin::pin!(publish(&bus, [message("4")]));
    assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await.is_pending());
    for _ in 0..4 {
        next(&mut fast).await.ack().await.unwrap();
    }
    assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await.is_pending());
    assert!(nothing(&mut fast).await, "no group has what another has no room for");
    next(&mut slow).await.ack().await.unwrap();
    waiting.await.unwrap();
    assert_eq!(text(&next(&mut fast).await), "4");
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_is_given_up_while_it_waits_is_in_no_group() {
    let memory = Memory::with(Limits {
        queue: 1,
        ..Limits::default()
    });
    let bus = memory.connect();
    // The one with room is asked first, and must get its room back.
    let (mut fast, mut slow) = (subscribe(&bus, "fast").await, subscribe(&bus, "slow").await);
    publish(&bus, [message("0")]).await.unwrap();
    next(&mut fast).await.ack().await.unwrap();
    assert!(timeout(SECOND, publish(&bus, [message("1")])).await.is_err());
    next(&mut slow).await.ack().await.unwrap();
    publish(&bus, [message("2")]).await.unwrap();
    assert_eq!(text(&next(&mut fast).await), "2");
    assert_eq!(text(&next(&mut slow).await), "2");
    assert!(
        memory
            .backlog()
            .iter()
            .all(|group| group.waiting == 0 && group.in_flight == 1 || group.in_flight == 0)
    );
}

#[tokio::test(start_paused = true)]
async fn closing_wakes_a_publish_that_waits_and_says_that_nothing_was_published() {
    let memory = Memory::with(Limits {
        queue: 1,
        ..Limits::default()
    });
    let (bus, other) = (memory.connect(), memory.connect());
    let mut deliveries = subscribe(&other, "g").await;
    publish(&bus, [message("0")]).await.unwrap();
    let waiting = tokio::spawn({
        let bus = bus.clone();
        async move { publish(&bus, [message("1")]).await }
    });
    tokio::task::yield_now().await;
    bus.clone().close().await.unwrap();
    bus.close().await.unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(Error::Closed)));
    next(&mut deliveries).await.ack().await.unwrap();
    assert!(nothing(&mut deliveries).await);
}

#[tokio::test(start_paused = true)]
async fn a_closed_streams_messages_go_to_others_and_were_no_attempt() {
    let bus = Bus::memory();
    let mut first = subscribe(&bus, "g").await;
    publish(&bus, [keyed("a", "1"), keyed("b", "2"), keyed("a", "3")])
        .await
        .unwrap();
    let (one, two) = (next(&mut first).await, next(&mut first).await);
    drop(first);
    let mut second = subscribe(&bus, "g").await;
    for expected in ["1", "2", "3"] {
        let delivery = next(&mut second).await;
        assert_eq!((text(&delivery).as_str(), delivery.attempt), (expected, 1));
        delivery.ack().await.unwrap();
    }
    assert!(matches!(one.ack().await, Err(Error::Stale)));
    drop(two);
    assert!(nothing(&mut second).await);
}

#[tokio::test(start_paused = true)]
async fn a_drop_is_an_attempt_and_after_closing_the_connection_it_is_none() {
    let memory = Memory::new();
    let (bus, other) = (memory.connect(), memory.connect());
    let mut deliveries = subscribe(&bus, "g").await;
    publish(&bus, [message("1")]).await.unwrap();
    drop(next(&mut deliveries).await);
    let again = next(&mut deliveries).await;
    assert_eq!(again.attempt, 2);
    bus.close().await.unwrap();
    assert!(deliveries.next().await.is_none());
    drop(again);
    let mut successor = subscribe(&other, "g").await;
    assert_eq!(next(&mut successor).await.attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn a_settled_publish_returns_when_the_last_group_is_done() {
    let bus = Bus::memory();
    let (mut one, mut two) = (subscribe(&bus, "one").await, subscribe(&bus, "two").await);
    let publisher = bus.clone();
    let publish = tokio::spawn(async move {
        publisher
            .publish_settled(&"order".into(), vec![keyed("a", "1"), keyed("b", "2")])
            .await
    });
    for delivery in [next(&mut one).await, next(&mut one).await, next(&mut two).await] {
        delivery.ack().await.unwrap();
    }
    let last = next(&mut two).await;
    last.retry(Some(SECOND)).await.unwrap();
    let last = next(&mut two).await;
    assert!(!publish.is_finished());
    last.dead("not wanted").await.unwrap();
    assert!(publish.await.unwrap().iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn a_settled_publish_that_no_group_takes_is_done_unless_it_is_mandatory() {
    let bus = Bus::memory();
    let batch = vec![message("1"), message("2").header(name::MANDATORY, "1")];
    let results = bus.publish_settled(&"order".into(), batch).await;
    assert!(matches!(results.as_slice(), [Ok(_), Err(Error::NoSubscriber { .. })]));
    drop(subscribe(&bus, "g").await);
    let held = publish(&bus, [message("3").header(name::MANDATORY, "1")]).await;
    assert!(held.is_ok(), "a group without members keeps what comes for it");
}

#[tokio::test(start_paused = true)]
async fn closing_ends_a_settled_publish_as_unconfirmed() {
    let bus = Bus::memory();
    let mut deliveries = subscribe(&bus, "g").await;
    let publisher = bus.clone();
    let publish = tokio::spawn(async move {
        publisher
            .publish_settled(&"order".into(), vec![message("1"), message("2")])
            .await
    });
    next(&mut deliveries).await.ack().await.unwrap();
    bus.close().await.unwrap();
    let results = publish.await.unwrap();
    assert!(
        matches!(results.as_slice(), [Ok(_), Err(Error::Unconfirmed(_))]),
        "{results:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_group_begins_at_the_oldest_message_that_is_still_there() {
    let bus = Memory::with(Limits {
        retained: 3,
        ..Limits::default()
    })
    .connect();
    publish(&bus, (0..5).map(|n| message(n.to_string()))).await.unwrap();
    let mut early = subscribe(&bus, "early").await;
    let mut late = bus
        .subscribe(Subscribe::new("order", "late").start(Start::Latest))
        .await
        .unwrap();
    for expected in ["2", "3", "4"] {
        assert_eq!(text(&next(&mut early).await), expected);
    }
    assert!(nothing(&mut late).await);
}

#[tokio::test(start_paused = true)]
async fn a_subscribed_group_misses_nothing_while_it_is_away_beyond_what_is_retained() {
    let bus = Memory::with(Limits {
        retained: 1,
        ..Limits::default()
    })
    .connect();
    drop(subscribe(&bus, "g").await);
    publish(&bus, (0..50).map(|n| message(n.to_string()))).await.unwrap();
    let mut deliveries = subscribe(&bus, "g").await;
    for expected in 0..50 {
        assert_eq!(text(&next(&mut deliveries).await), expected.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_gets_a_message_once_however_many_of_its_subscriptions_fit() {
    let bus = Bus::memory();
    let mut pattern = bus.subscribe(Subscribe::new("payment.*", "g")).await.unwrap();
    bus.publish_to("payment.card", [message("1")]).await.unwrap();
    let mut exact = bus.subscribe(Subscribe::new("payment.card", "g")).await.unwrap();
    bus.publish_to("payment.card", [message("2")]).await.unwrap();
    bus.publish_to("payment.cash", [message("3")]).await.unwrap();
    let own = next(&mut exact).await;
    assert_eq!(text(&own), "2");
    let (first, second) = (next(&mut pattern).await, next(&mut pattern).await);
    assert_eq!((text(&first).as_str(), text(&second).as_str()), ("1", "3"));
    assert_eq!(second.topic.as_ref(), "payment.cash");
    assert!(nothing(&mut pattern).await && nothing(&mut exact).await);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_read_requeued_and_discarded() {
    let bus = Bus::memory();
    let mut deliveries = subscribe(&bus, "g").await;
    let mut bystander = subscribe(&bus, "bystander").await;
    let sent = keyed("a", "1").header("tenant", "north");
    publish(&bus, [sent.clone(), keyed("a", "2")]).await.unwrap();
    next(&mut bystander).await.ack().await.unwrap();
    next(&mut bystander).await.ack().await.unwrap();
    next(&mut deliveries).await.retry(None).await.unwrap();
    next(&mut deliveries).await.dead("bad sku").await.unwrap();
    let moved_on = next(&mut deliveries).await;
    assert_eq!(text(&moved_on), "2");
    moved_on.ack().await.unwrap();

    let dead = bus.dead_letters("order", "g").unwrap();
    let letter = dead.get(sent.id).await.unwrap();
    assert_eq!((letter.last.reason.as_str(), letter.last.attempts), ("bad sku", 2));
    assert_eq!(
        (letter.message.key, letter.message.headers.get("tenant")),
        (sent.key, Some("north"))
    );
    assert_eq!(bus.dead_letter_queues().await.unwrap()[0].count, 1);

    dead.requeue(sent.id).await.unwrap();
    let again = next(&mut deliveries).await;
    assert_eq!((again.message.id, again.attempt), (sent.id, 1));
    assert_eq!(again.message.headers.get(name::GENERATION), Some("1"));
    again.dead("still bad").await.unwrap();
    assert!(nothing(&mut bystander).await);
    let letter = dead.get(sent.id).await.unwrap();
    assert_eq!(
        (letter.last.reason.as_str(), letter.history[0].reason.as_str()),
        ("still bad", "bad sku")
    );
    dead.discard(sent.id).await.unwrap();
    assert!(matches!(dead.discard(sent.id).await, Err(Error::NoDeadLetter { .. })));
    assert!(bus.dead_letter_queues().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_finds_no_room_among_the_dead_letters_stays_with_its_group() {
    let bus = Memory::with(Limits {
        dead_letters: 1,
        ..Limits::default()
    })
    .connect();
    let mut deliveries = subscribe(&bus, "g").await;
    publish(&bus, [message("1"), message("2")]).await.unwrap();
    let first = next(&mut deliveries).await;
    let id = first.message.id;
    first.dead("one").await.unwrap();
    let second = next(&mut deliveries).await;
    assert!(matches!(second.dead("two").await, Err(Error::DeadLettersFull { .. })));
    bus.dead_letters("order", "g").unwrap().discard(id).await.unwrap();
    let second = next(&mut deliveries).await;
    assert_eq!((text(&second).as_str(), second.attempt), ("2", 1));
    second.dead("two").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn members_of_one_group_keep_one_order() {
    let bus = Bus::memory();
    let first = subscribe(&bus, "g").await;
    publish(&bus, [keyed("a", "1"), keyed("a", "2"), keyed("b", "3")])
        .await
        .unwrap();
    let unordered = Subscribe::new("order", "g").order(Order::None);
    assert!(matches!(
        bus.subscribe(unordered.clone()).await.err(),
        Some(Error::Unsupported { .. })
    ));
    drop(first);
    let mut deliveries = bus.subscribe(unordered).await.unwrap();
    let all = [
        next(&mut deliveries).await,
        next(&mut deliveries).await,
        next(&mut deliveries).await,
    ];
    assert_eq!(all.each_ref().map(text), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_member_does_not_keep_a_message_from_an_idle_one() {
    let bus = Bus::memory();
    let (mut busy, mut idle) = (subscribe(&bus, "g").await, subscribe(&bus, "g").await);
    // Both wait; the first is woken first and never looks again.
    assert!(nothing(&mut busy).await);
    let waits = tokio::spawn(async move { next(&mut idle).await.ack().await });
    tokio::task::yield_now().await;
    publish(&bus, [message("1")]).await.unwrap();
    waits.await.unwrap().unwrap();
}

/// Publishes 200 messages over 8 keys with every fault on; gives what came first, in order, and all that came.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_given_back_goes_to_another_member_that_waits() {
    let broker = Memory::new();
    let (one, two) = (broker.connect(), broker.connect());
    let (mut first, mut second) = (subscribe(&one, "workers").await, subscribe(&two, "workers").await);
    publish(&one, [Message::new("job").key("a")]).await.unwrap();
    let second = tokio::spawn(async move {
        let delivery = next(&mut second).await;
        assert!(delivery.attempt > 1);
        delivery.ack().await.unwrap();
    });
    // The one that comes first has no use for it, however often it gets it.
    for attempt in 1.. {
        let delivery = match tokio::time::timeout(Duration::from_secs(60), first.next()).await {
            Ok(delivery) => delivery.unwrap().unwrap(),
            Err(_) => break,
        };
        assert!(attempt < 3, "the other one never gets it");
        delivery.retry(Some(Duration::from_secs(1))).await.unwrap();
    }
    second.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_given_back_waits_for_no_member_that_does_not_come() {
    let broker = Memory::new();
    let (one, two) = (broker.connect(), broker.connect());
    let (mut first, mut second) = (subscribe(&one, "workers").await, subscribe(&two, "workers").await);
    // It has looked once, and does not look again.
    assert!(nothing(&mut second).await);
    publish(&one, [Message::new("job").key("a")]).await.unwrap();
    for attempt in 1..5 {
        let delivery = next(&mut first).await;
        assert_eq!(delivery.attempt, attempt);
        delivery.retry(Some(Duration::from_secs(1))).await.unwrap();
    }
}

async fn with_faults(seed: u64) -> (Vec<String>, Vec<String>) {
    let memory = Memory::new();
    memory.inject(
        Faults::seeded(seed)
            .duplicate(0.2)
            .delay(0.2, SECOND)
            .reorder(0.5)
            .lose_ack(0.1, 3 * SECOND)
            .refuse(0.1)
            .refuse_every(7)
            .unconfirmed(0.1),
    );
    let bus = memory.connect();
    let mut deliveries = subscribe(&bus, "g").await;
    for n in 0..200 {
        let message = keyed(["a", "b", "c", "d", "e", "f", "g", "h"][n % 8], n.to_string());
        while publish(&bus, [message.clone()])
            .await
            .is_err_and(|error| error.is_retryable())
        {}
    }
    let (mut first, mut all) = (Vec::new(), Vec::new());
    while let Ok(Some(Ok(delivery))) = timeout(60 * SECOND, deliveries.next()).await {
        let text = text(&delivery);
        if !all.contains(&text) {
            first.push(text.clone());
        }
        all.push(text);
        delivery.ack().await.unwrap();
    }
    assert_eq!(memory.backlog()[0].waiting + memory.backlog()[0].in_flight, 0);
    (first, all)
}

#[tokio::test(start_paused = true)]
async fn faults_lose_nothing_and_keep_the_order_of_first_deliveries_per_key() {
    for seed in 0..20 {
        let (first, all) = with_faults(seed).await;
        assert_eq!(first.len(), 200);
        assert!(all.len() > 220, "some came again");
        let numbers: Vec<usize> = first.iter().map(|text| text.parse().unwrap()).collect();
        for key in 0..8 {
            let of_key: Vec<usize> = numbers.iter().copied().filter(|n| n % 8 == key).collect();
            assert!(of_key.is_sorted(), "seed {seed}: {of_key:?}");
        }
        assert!(!numbers.is_sorted(), "strangers passed each other");
        assert_eq!(with_faults(seed).await, (first, all), "the same seed, the same run");
    }
}

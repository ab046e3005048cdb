//! What is delayed comes when it is due, as it was, and outlives whoever waits for it.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use sagamill_bus::{
    DELAY_MAX, Deliveries, Error, Subscribe, delays, delays_by,
    headers::name,
    memory::{Faults, Memory},
    prelude::*,
};

use crate::kit::{Clock, Running, SECOND, nothing_is_left, settle};

const HOUR: Duration = Duration::from_hours(1);
/// What is promised.
const LATE_MAX: Duration = Duration::from_millis(150);

async fn start(bus: &Bus, clock: Clock) -> Running {
    Running::start_in("delays", delays_by(move || clock.now()), bus).await
}

async fn delay(bus: &Bus, due: SystemTime, message: Message) {
    bus.publish_at("tea", due, [message]).await.unwrap();
}

/// The next message, and how long after a time it came.
async fn next(inbox: &mut Deliveries, clock: Clock, due: SystemTime) -> (Message, Duration) {
    let delivery = inbox.next().await.unwrap().unwrap();
    let late = clock.now().duration_since(due).expect("it does not come early");
    let message = delivery.message.clone();
    delivery.ack().await.unwrap();
    (message, late)
}

#[tokio::test(start_paused = true)]
async fn each_message_comes_when_it_is_due_and_long_waits_are_behind_short_ones() {
    let (memory, clock) = (Memory::new(), Clock::start());
    let bus = memory.connect();
    let running = start(&bus, clock).await;
    let mut inbox = bus.subscribe(Subscribe::new("tea", "drinker")).await.unwrap();
    let waits = [HOUR * 50, HOUR * 3, SECOND * 200, SECOND * 61, SECOND * 7, SECOND / 20];
    let base = clock.now();
    for wait in waits {
        // All of one key, which is nobody's business while they wait.
        delay(&bus, base + wait, Message::new(format!("{wait:?}")).key("k")).await;
    }
    for wait in waits.into_iter().rev() {
        let (message, late) = next(&mut inbox, clock, base + wait).await;
        assert_eq!(message.payload, format!("{wait:?}"));
        assert!(late <= LATE_MAX, "{wait:?}: {late:?}");
    }
    settle().await;
    nothing_is_left(&memory);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_comes_as_it_was_given() {
    let (bus, clock) = (Bus::memory(), Clock::start());
    let running = start(&bus, clock).await;
    let mut inbox = bus.subscribe(Subscribe::new("tea", "drinker")).await.unwrap();
    let plain = Message::new("green").key("k").header("sort", "sencha");
    let command = Message::new("black").header(name::MANDATORY, "1");
    for message in [plain, command] {
        let due = clock.now() + HOUR * 2;
        delay(&bus, due, message.clone()).await;
        let (mut came, _) = next(&mut inbox, clock, due).await;
        came.headers.remove(name::TRACEPARENT);
        assert_eq!(came, message);
    }
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restart_loses_nothing_and_is_not_early() {
    let (bus, clock) = (Bus::memory(), Clock::start());
    let mut inbox = bus.subscribe(Subscribe::new("tea", "drinker")).await.unwrap();
    let first = start(&bus, clock).await;
    let (soon, late) = (clock.now() + SECOND * 30, clock.now() + HOUR);
    delay(&bus, late, Message::new("late")).await;
    delay(&bus, soon, Message::new("soon")).await;
    tokio::time::sleep(SECOND * 10).await;
    first.stop().await.unwrap();
    tokio::time::sleep(SECOND * 60).await;
    let second = start(&bus, clock).await;
    // Its time came while nobody was there.
    let (message, _) = next(&mut inbox, clock, soon).await;
    assert_eq!(message.payload, "soon");
    tokio::time::sleep(SECOND).await;
    second.task.abort();
    let third = start(&bus, clock).await;
    let (message, missed) = next(&mut inbox, clock, late).await;
    assert_eq!(message.payload, "late");
    assert!(missed <= LATE_MAX, "{missed:?}");
    third.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_cannot_be_published_to_is_tried_again() {
    let (memory, clock) = (Memory::new(), Clock::start());
    let bus = memory.connect();
    let running = start(&bus, clock).await;
    let mut inbox = bus.subscribe(Subscribe::new("tea", "drinker")).await.unwrap();
    let due = clock.now() + SECOND * 90;
    delay(&bus, due, Message::new("tea")).await;
    memory.inject(Faults::seeded(1).refuse(1.0));
    tokio::time::sleep(HOUR).await;
    memory.calm();
    let (message, _) = next(&mut inbox, clock, due).await;
    assert_eq!(message.payload, "tea");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_wait_is_refused_and_what_need_not_is_published_at_once() {
    let bus = Bus::memory();
    let mut inbox = bus.subscribe(Subscribe::new("tea", "drinker")).await.unwrap();
    let publish = |after| bus.publish_after("tea", after, [Message::new("tea")]);
    let nobody = publish(SECOND).await;
    assert!(matches!(nobody, Err(Error::NoSubscriber { .. })), "{nobody:?}");
    for after in [DELAY_MAX + SECOND, Duration::MAX] {
        let forever = publish(after).await;
        assert!(matches!(forever, Err(Error::DelayTooLong { .. })), "{forever:?}");
    }
    publish(Duration::ZERO).await.unwrap();
    assert_eq!(inbox.next().await.unwrap().unwrap().message.payload, "tea");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_delayed_is_a_dead_letter() {
    let bus = Bus::memory();
    let running = Running::start(delays(), &bus).await;
    let topic = "sagamill.delayed.seconds";
    let sometime = Message::new("tea")
        .header(name::DUE, "sometime")
        .header(name::DUE_TOPIC, "tea");
    bus.publish_to(topic, [Message::new("tea"), sometime]).await.unwrap();
    settle().await;
    assert_eq!(crate::kit::reasons(&bus, topic).await.len(), 2);
    running.stop().await.unwrap();
}

//! From topic to topic: several to one, one to several, and back from the dead.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use sagamill_bus::{
    Deliveries, Groups, Requeue, Subscribe, delays_by,
    headers::name,
    layer::Deduplicate,
    memory::{Faults, Memory},
    prelude::*,
};

use crate::kit::{Clock, Log, Running, SECOND, quick, reasons, refused, settle};

/// What waits in a subscription, acknowledged.
async fn read(inbox: &mut Deliveries) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Ok(Some(delivery)) = tokio::time::timeout(SECOND, inbox.next()).await {
        let delivery = delivery.unwrap();
        messages.push(delivery.message.clone());
        delivery.ack().await.unwrap();
    }
    messages
}

fn text(message: &Message) -> String {
    String::from_utf8(message.payload.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn several_topics_go_to_one_and_one_to_several_as_they_are() {
    let bus = Bus::memory();
    let router = Router::new()
        .forward("eu.order", ["order"])
        .forward("us.order", ["order"])
        .forward("order", ["billing", "audit"]);
    let running = Running::start(router, &bus).await;
    let mut sent = Vec::new();
    for number in 0..20 {
        let message = Message::new(number.to_string()).key(number % 3).header("n", "1");
        let topic = if number % 3 == 0 { "eu.order" } else { "us.order" };
        bus.publish_to(topic, [message.clone()]).await.unwrap();
        sent.push(message);
    }
    for topic in ["order", "billing", "audit"] {
        let mut inbox = bus.subscribe(Subscribe::new(topic, "reader")).await.unwrap();
        let came = read(&mut inbox).await;
        assert_eq!(came.len(), sent.len());
        for key in 0..3 {
            let of_key = |messages: &[Message]| {
                let of = messages.iter().filter(|message| message.key == Some(key.into()));
                of.map(|message| (message.id, text(message))).collect::<Vec<_>>()
            };
            assert_eq!(of_key(&came), of_key(&sent), "{topic}, key {key}");
        }
        assert!(came.iter().all(|message| message.headers.get("n") == Some("1")));
    }
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_is_acknowledged_when_all_its_topics_have_it() {
    let memory = Memory::new();
    let bus = memory.connect();
    let router = Router::new().forward("order", ["billing", "audit"]).retry(quick(30));
    let running = Running::start(router, &bus).await;
    let messages: Vec<Message> = (0..20).map(|number| Message::new(number.to_string())).collect();
    bus.publish_to("order", messages).await.unwrap();
    memory.inject(Faults::seeded(1).refuse(0.4));
    settle().await;
    memory.calm();
    for topic in ["billing", "audit"] {
        let mut inbox = bus.subscribe(Subscribe::new(topic, "reader")).await.unwrap();
        let came: BTreeSet<String> = read(&mut inbox).await.iter().map(text).collect();
        assert_eq!(came.len(), 20, "{topic}");
    }
    assert!(reasons(&bus, "order").await.is_empty());
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_does_not_go_round() {
    let bus = Bus::memory();
    let running = Running::start(Router::new().forward("order.*", ["order.eu"]), &bus).await;
    bus.publish_to("order.us", [Message::new("1")]).await.unwrap();
    settle().await;
    assert_eq!(
        reasons(&bus, "order.eu").await,
        ["it would be forwarded to where it comes from"]
    );
    assert!(reasons(&bus, "order.us").await.is_empty());
    running.stop().await.unwrap();
}

/// Fails each message until it was put back so often.
async fn poor(
    State((log, times)): State<(Log, u32)>,
    Attempt(attempt): Attempt,
    message: Message,
) -> Result<(), HandlerError> {
    assert_eq!(message.headers.get(name::DEAD_REASON), None);
    log.write(format!("{}/{attempt}", message.generation()));
    if message.generation() < times {
        Err(refused())
    } else {
        Ok(())
    }
}

/// A handler whose dead letters are put back twice, ten seconds later; what it saw, and what was given up for good.
async fn second_chances(bus: &Bus, good_after: u32) -> (Vec<String>, Vec<String>) {
    let (log, clock) = (Log::default(), Clock::start());
    let handler = Router::new().route("order", poor).layer(Deduplicate::new());
    let handler = handler.retry(quick(2)).dead_letters("order.dead");
    let groups = Groups::new()
        .with("inventory", handler.with_state((log.clone(), good_after)))
        .with(
            "g",
            Router::new().requeue("order.dead", Requeue::after(10 * SECOND).times(2)),
        )
        .with("delays", delays_by(move || clock.now()));
    let running = groups.subscribe(bus).await.unwrap();
    let running = tokio::spawn(running.run(std::future::pending()));
    bus.publish_to("order", [Message::new("tea").key("k")]).await.unwrap();
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(log.lines().len(), if good_after == 0 { 1 } else { 2 }, "it waits first");
    settle().await;
    running.abort();
    (log.lines(), reasons(bus, "order.dead").await)
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_put_back_after_a_time_and_handled_anew() {
    let bus = Bus::memory();
    let (seen, dead) = second_chances(&bus, 1).await;
    assert_eq!(seen, ["0/1", "0/2", "1/1"]);
    assert!(dead.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_put_back_often_enough_is_given_up_with_its_reason() {
    let bus = Bus::memory();
    let (seen, dead) = second_chances(&bus, 9).await;
    assert_eq!(seen, ["0/1", "0/2", "1/1", "1/2", "2/1", "2/2"]);
    assert_eq!(dead, ["put back 2 times: gave up after attempt 2: refused"]);
}

#[tokio::test(start_paused = true)]
async fn any_topic_can_be_put_back_to_another() {
    let bus = Bus::memory();
    let requeue = Requeue::after(std::time::Duration::ZERO).to("order");
    let running = Running::start(Router::new().requeue("attic", requeue), &bus).await;
    bus.publish_to("attic", [Message::new("tea")]).await.unwrap();
    settle().await;
    let mut inbox = bus.subscribe(Subscribe::new("order", "reader")).await.unwrap();
    assert_eq!(read(&mut inbox).await.iter().map(text).collect::<Vec<_>>(), ["tea"]);
    running.stop().await.unwrap();
}

//! A message is marked when it is handled, not before, and never handled twice at a time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::BoxFuture;
use sagamill_bus::{
    BoxError, Order,
    layer::{Claim, DedupeKey, DedupeMemory, DedupeStore, Deduplicate},
    memory::{Faults, Memory},
    prelude::*,
};
use tokio::sync::Semaphore;

use crate::kit::{Log, Running, SECOND, placed, quick, reasons, refused, settle};

/// The same message as often as it is asked for.
async fn publish(bus: &Bus, message: &Message, times: usize) {
    let copies = std::iter::repeat_n(message.clone(), times);
    bus.publish_to("order", copies).await.unwrap();
}

fn message() -> Message {
    // Without a key, so that copies are in flight together.
    Message::new("tea")
}

async fn note(State(log): State<Log>, message: Message) {
    log.write(String::from_utf8(message.payload.to_vec()).unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_was_handled_is_passed_over() {
    let (memory, log) = (Memory::new(), Log::default());
    let bus = memory.connect();
    let router = Router::new().route("order", note).layer(Deduplicate::new());
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    publish(&bus, &message(), 3).await;
    publish(&bus, &Message::new("coffee"), 1).await;
    settle().await;
    assert_eq!(log.lines(), ["tea", "coffee"]);
    let backlog = &memory.backlog()[0];
    assert_eq!((backlog.waiting, backlog.in_flight, backlog.dead), (0, 0, 0));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_handled_when_it_comes_again() {
    async fn poor(State(log): State<Log>, Attempt(attempt): Attempt) -> Result<Settlement, HandlerError> {
        log.write(attempt.to_string());
        match attempt {
            1 => Err(refused()),
            2 => panic!("boom"),
            3 => Ok(Settlement::Retry { after: None }),
            _ => Ok(Settlement::Ack),
        }
    }
    let (bus, log) = (Bus::memory(), Log::default());
    let router = Router::new()
        .route("order", poor)
        .layer(Deduplicate::new())
        .retry(quick(9));
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    publish(&bus, &message(), 1).await;
    settle().await;
    assert_eq!(log.lines(), ["1", "2", "3", "4"]);
    assert!(reasons(&bus, "order").await.is_empty());
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_was_not_handled_and_is_when_it_is_requeued() {
    async fn late(State((log, open)): State<(Log, Arc<AtomicBool>)>, _: Message) -> Settlement {
        log.write("called");
        if open.load(Ordering::Relaxed) {
            Settlement::Ack
        } else {
            Settlement::Dead { reason: "shut".into() }
        }
    }
    let (bus, log, open) = (Bus::memory(), Log::default(), Arc::new(AtomicBool::new(false)));
    let router = Router::new().route("order", late).layer(Deduplicate::new());
    let running = Running::start(router.with_state((log.clone(), open.clone())), &bus).await;
    let message = message();
    publish(&bus, &message, 1).await;
    settle().await;
    open.store(true, Ordering::Relaxed);
    let dead = bus.dead_letters("order", "g").unwrap();
    dead.requeue(message.id).await.unwrap();
    settle().await;
    assert_eq!(log.lines(), ["called", "called"]);
    assert!(dead.list(None, 1).await.unwrap().is_empty());
    running.stop().await.unwrap();
}

/// Notes when a call begins, and ends it as it is told.
async fn held(
    State((log, turns)): State<(Log, Arc<Semaphore>)>,
    Attempt(attempt): Attempt,
) -> Result<(), HandlerError> {
    log.write("begins");
    turns.acquire().await.unwrap().forget();
    log.write("ends");
    if log.count("ends") == 1 && attempt == 1 {
        return Err(refused());
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn of_two_at_once_the_second_waits_and_goes_on_where_the_first_fails() {
    let (memory, log, turns) = (Memory::new(), Log::default(), Arc::new(Semaphore::new(0)));
    let bus = memory.connect();
    let router = Router::new()
        .route("order", held)
        .layer(Deduplicate::new())
        .retry(quick(9));
    let running = Running::start(router.with_state((log.clone(), turns.clone())), &bus).await;
    publish(&bus, &message(), 3).await;
    settle().await;
    assert_eq!(log.lines(), ["begins"], "three are in flight, and one is handled");
    turns.add_permits(1);
    settle().await;
    assert_eq!(
        log.lines(),
        ["begins", "ends", "begins"],
        "the first failed: another one is handled"
    );
    turns.add_permits(9);
    settle().await;
    assert_eq!(
        log.lines(),
        ["begins", "ends", "begins", "ends"],
        "the second did not: the others are passed over"
    );
    assert_eq!(memory.backlog()[0].in_flight, 0, "none of them waits on");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_lets_the_next_one_go_on() {
    let (bus, log, turns) = (Bus::memory(), Log::default(), Arc::new(Semaphore::new(0)));
    let store = DedupeMemory::new();
    let router = || {
        let layer = Deduplicate::in_store(store.clone());
        let router = Router::new().route("order", held).layer(layer);
        router.drain(SECOND).with_state((log.clone(), turns.clone()))
    };
    let first = Running::start(router(), &bus).await;
    publish(&bus, &message(), 1).await;
    settle().await;
    first.stop().await.unwrap();
    let second = Running::start(router(), &bus).await;
    settle().await;
    assert_eq!(log.lines(), ["begins", "begins"]);
    second.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_success_is_not_repeated_where_its_settlement_is_lost() {
    let (memory, log) = (Memory::new(), Log::default());
    let bus = memory.connect();
    memory.inject(Faults::seeded(1).lose_ack(1.0, SECOND));
    let router = Router::new().route("order", note).layer(Deduplicate::new());
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    publish(&bus, &message(), 1).await;
    tokio::time::sleep(10 * SECOND).await;
    memory.calm();
    settle().await;
    assert_eq!(log.lines(), ["tea"]);
    assert_eq!(memory.backlog()[0].waiting, 0);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_handler_has_keys_of_its_own_and_a_header_may_be_the_key() {
    async fn also(State(log): State<Log>, _: Message) {
        log.write("also");
    }
    let (bus, log) = (Bus::memory(), Log::default());
    let layer = Deduplicate::new().by_header("order");
    let router = Router::new().route("order", note).route("order", also).layer(layer);
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    for (payload, order) in [("tea", "1"), ("more tea", "1"), ("coffee", "2")] {
        publish(&bus, &Message::new(payload).header("order", order), 1).await;
    }
    let without = Message::new("water");
    publish(&bus, &without, 2).await;
    publish(
        &bus,
        &Message::new("long").header("order", "x".repeat(DedupeKey::MAX + 1)),
        1,
    )
    .await;
    settle().await;
    assert_eq!(log.count("also"), 3);
    assert_eq!(
        ["tea", "more tea", "coffee", "water", "long"].map(|line| log.count(line)),
        [1, 0, 1, 1, 0]
    );
    assert_eq!(reasons(&bus, "order").await.len(), 1);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_given_twice_does_not_wait_for_itself() {
    let (bus, log) = (Bus::memory(), Log::default());
    let layer = Deduplicate::new();
    let router = Router::new().route("order", note).layer(layer.clone()).layer(layer);
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    publish(&bus, &message(), 2).await;
    settle().await;
    assert_eq!(log.lines(), ["tea"]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn memory_forgets_by_time_and_by_number() {
    let (bus, log) = (Bus::memory(), Log::default());
    let store = DedupeMemory::new().keys_max(2).remember(10 * SECOND);
    let router = Router::new().route("order", note).layer(Deduplicate::in_store(store));
    let running = Running::start(router.order(Order::None).with_state(log.clone()), &bus).await;
    let (tea, coffee, water) = (message(), Message::new("coffee"), Message::new("water"));
    for message in [&tea, &coffee, &water, &water, &coffee, &tea] {
        publish(&bus, message, 1).await;
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(
        log.lines(),
        ["tea", "coffee", "water", "tea"],
        "the third key drove out the first"
    );
    tokio::time::sleep(20 * SECOND).await;
    publish(&bus, &water, 1).await;
    settle().await;
    assert_eq!(log.count("water"), 2);
    running.stop().await.unwrap();
}

/// A store that answers as another process would make it.
#[derive(Default)]
struct Elsewhere {
    asked: AtomicBool,
}

impl DedupeStore for Elsewhere {
    fn claim<'a>(&'a self, key: &'a DedupeKey) -> BoxFuture<'a, Result<Claim, BoxError>> {
        assert!(key.handler.starts_with("g/"));
        let first = !self.asked.swap(true, Ordering::Relaxed);
        Box::pin(async move {
            match first {
                true => Ok(Claim::Busy),
                false => Ok(Claim::Taken),
            }
        })
    }
    fn done<'a>(&'a self, _: &'a DedupeKey) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async { Err("gone".into()) })
    }
    fn release(&self, _: &DedupeKey) {}
}

#[tokio::test(start_paused = true)]
async fn what_another_process_is_at_is_given_back_and_a_mark_that_fails_repeats_nothing() {
    let (bus, log) = (Bus::memory(), Log::default());
    let layer = Deduplicate::in_store(Elsewhere::default());
    let router = Router::new().route("order", note).layer(layer);
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    bus.publish(&placed(1)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    assert!(log.lines().is_empty());
    settle().await;
    assert_eq!(log.lines().len(), 1);
    assert!(reasons(&bus, "order").await.is_empty());
    running.stop().await.unwrap();
}

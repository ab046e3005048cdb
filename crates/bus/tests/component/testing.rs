//! The layers for tests break what a broker may break, and nothing else.

use futures_util::StreamExt;
use sagamill_bus::{
    MessageId, Subscribe, codec,
    layer::{Deduplicate, Duplicate, FailRandomly},
    memory::Memory,
    prelude::*,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::kit::{Log, Placed, Running, placed, quick, reasons, refused, settle};

#[derive(Debug, Serialize, Deserialize)]
struct StockLow {
    order: u64,
}
impl Event for StockLow {
    const NAME: &'static str = "stock.low";
}

async fn note(State(log): State<Log>, Attempt(attempt): Attempt, placed: Placed) -> Result<(), HandlerError> {
    log.write(format!("{} {attempt}", placed.order));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_called_twice_is_settled_once() {
    async fn watch(State(log): State<Log>, placed: Placed) -> Emit<StockLow> {
        log.write("called");
        Emit(StockLow { order: placed.order })
    }
    let (memory, log) = (Memory::new(), Log::default());
    let bus = memory.connect();
    let mut low = bus.subscribe(Subscribe::new("stock", "watcher")).await.unwrap();
    let router = Router::new().on(watch).layer(Duplicate).with_state(log.clone());
    let running = Running::start(router, &bus).await;
    bus.publish(&placed(1)).await.unwrap();
    settle().await;
    assert_eq!(log.lines(), ["called", "called"]);
    let first = low.next().await.unwrap().unwrap();
    let second = low.next().await.unwrap().unwrap();
    assert_eq!(first.message.id, second.message.id);
    let backlog = memory.backlog();
    let backlog = backlog.iter().find(|backlog| backlog.group == "g").unwrap();
    assert_eq!((backlog.waiting, backlog.in_flight), (0, 0));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_second_time_that_fails_is_tried_again_and_a_first_has_no_second() {
    async fn odd(State(log): State<Log>, _: Placed) -> Result<(), HandlerError> {
        log.write("called");
        match log.lines().len() {
            1 | 3 => Err(refused()),
            _ => Ok(()),
        }
    }
    let (bus, log) = (Bus::memory(), Log::default());
    let router = Router::new().on(odd).layer(Duplicate).retry(quick(9));
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    bus.publish(&placed(1)).await.unwrap();
    settle().await;
    // Once and failed; twice, the second failed; twice.
    assert_eq!(log.lines().len(), 5);
    running.stop().await.unwrap();
}

/// What came of 200 messages: the handler's calls, and the dead letters.
async fn fail(layer: FailRandomly) -> (Vec<String>, Vec<String>) {
    let (bus, log) = (Bus::memory(), Log::default());
    let router = Router::new().on(note).layer(layer).retry(quick(2));
    let running = Running::start(router.max_in_flight(1).with_state(log.clone()), &bus).await;
    for order in 0..200 {
        // Waits depend on ids.
        let id = MessageId::derived(Uuid::nil(), "order", u32::try_from(order).unwrap());
        let message = codec::message(&placed(order)).unwrap().id(id);
        bus.publish_to("order", [message]).await.unwrap();
    }
    settle().await;
    running.stop().await.unwrap();
    (log.lines(), reasons(&bus, "order").await)
}

#[tokio::test(start_paused = true)]
async fn failures_before_the_handler_call_it_less_often_and_those_after_it_more_often() {
    let (calls, dead) = fail(FailRandomly::seeded(1).before(0.5)).await;
    assert_eq!(
        calls.len() + dead.len(),
        200,
        "each is handled once, or given up unhandled"
    );
    assert!((25..75).contains(&dead.len()), "{}", dead.len());
    assert!(
        dead.iter().all(|reason| reason.ends_with("before the handler")),
        "{dead:?}"
    );
    let (calls, dead) = fail(FailRandomly::seeded(1).after(0.5)).await;
    assert!((275..325).contains(&calls.len()), "{}", calls.len());
    assert!((25..75).contains(&dead.len()), "{}", dead.len());
    assert!(
        dead.iter().all(|reason| reason.ends_with("after the handler")),
        "{dead:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_fails_the_same_and_another_does_not() {
    let layer = |seed| FailRandomly::seeded(seed).before(0.3).after(0.3);
    let (first, again, other) = (fail(layer(1)).await, fail(layer(1)).await, fail(layer(2)).await);
    assert_eq!(first, again);
    assert_ne!(first, other);
    let (calls, dead) = fail(layer(1).before(0.0).after(0.0)).await;
    assert_eq!((calls.len(), dead.len()), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn layers_compose_to_a_handler_that_succeeds_once_whatever_fails() {
    let (bus, log) = (Bus::memory(), Log::default());
    let router = Router::new()
        .on(note)
        .layer(FailRandomly::seeded(1).before(0.3))
        .layer(Deduplicate::new())
        .layer(Duplicate)
        .layer(FailRandomly::seeded(2).after(0.3))
        .retry(quick(30));
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    for order in 0..200 {
        bus.publish(&placed(order)).await.unwrap();
    }
    settle().await;
    assert_eq!(log.lines().len(), 200);
    assert!(reasons(&bus, "order").await.is_empty());
    running.stop().await.unwrap();
}

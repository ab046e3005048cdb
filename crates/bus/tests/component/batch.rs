//! Batches: what gathers is handed out together and settled one by one.

use std::time::Duration;

use futures_util::StreamExt;
use sagamill_bus::{
    Batched, Batching, Error, Subscribe, codec, headers::name, layer::Duplicate, memory::Memory, prelude::*,
};
use serde::{Deserialize, Serialize};
use tower::timeout::TimeoutLayer;

use crate::kit::{Log, Placed, Running, SECOND, placed, quick, reasons, refused, settle};

/// A batch on one line, each message with its attempt.
fn line(batch: &[Batched<Placed>]) -> String {
    let mut line: Vec<String> = batch
        .iter()
        .map(|one| format!("{}.{}/{}", one.event.order, one.event.part, one.attempt))
        .collect();
    line.sort();
    line.join(" ")
}

async fn note(State(log): State<Log>, batch: Vec<Batched<Placed>>) {
    log.write(line(&batch));
}

async fn publish(bus: &Bus, orders: std::ops::Range<u64>) {
    for order in orders {
        bus.publish(&placed(order)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_handed_out_when_it_is_full_and_else_when_its_first_has_lingered() {
    let (memory, log) = (Memory::new(), Log::default());
    let bus = memory.connect();
    let router = Router::new().on_batch(Batching::of(3).linger(SECOND), note);
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    publish(&bus, 1..6).await;
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!(log.lines(), ["1.0/1 2.0/1 3.0/1"]);
    publish(&bus, 6..7).await;
    publish(&bus, 7..8).await;
    tokio::time::sleep(SECOND / 4).await;
    assert_eq!(log.lines(), ["1.0/1 2.0/1 3.0/1", "4.0/1 5.0/1 6.0/1"]);
    settle().await;
    assert_eq!(log.lines()[2..], ["7.0/1"]);
    assert_eq!((memory.backlog()[0].waiting, memory.backlog()[0].in_flight), (0, 0));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_lingers_from_its_first_message_on() {
    let (bus, log) = (Bus::memory(), Log::default());
    let router = Router::new().on_batch(Batching::of(9).linger(3 * SECOND), note);
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    for order in 1..=2 {
        publish(&bus, order..order + 1).await;
        tokio::time::sleep(2 * SECOND).await;
    }
    assert_eq!(log.lines(), ["1.0/1 2.0/1"]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_message_is_settled_by_its_own_answer() {
    async fn answer(State(log): State<Log>, batch: Vec<Batched<Placed>>) -> Vec<Result<Settlement, HandlerError>> {
        log.write(line(&batch));
        let one = |one: Batched<Placed>| match (one.event.order, one.attempt) {
            (1, _) => Ok(Settlement::Dead { reason: "one".into() }),
            (2, _) => Err(HandlerError::permanent("two")),
            (3, 1) => Ok(Settlement::Retry { after: Some(SECOND) }),
            (4, 1) => Err(refused()),
            _ => Ok(Settlement::Ack),
        };
        batch.into_iter().map(one).collect()
    }
    let (memory, log) = (Memory::new(), Log::default());
    let bus = memory.connect();
    let router = Router::new().on_batch(Batching::of(5), answer).retry(quick(3));
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    publish(&bus, 1..6).await;
    settle().await;
    assert_eq!(log.lines(), ["1.0/1 2.0/1 3.0/1 4.0/1 5.0/1", "4.0/2", "3.0/2"]);
    let mut reasons = reasons(&bus, "order").await;
    reasons.sort();
    assert_eq!(reasons, ["one", "two"]);
    assert_eq!((memory.backlog()[0].waiting, memory.backlog()[0].in_flight), (0, 0));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_keeps_its_order_across_batches_and_retries() {
    async fn poor(State(log): State<Log>, batch: Vec<Batched<Placed>>) -> Vec<Result<(), HandlerError>> {
        let one = |one: Batched<Placed>| {
            // Every third fails at first, each at another place of its batch.
            if one.attempt == 1 && (one.event.order + one.event.part).is_multiple_of(3) {
                return Err(refused());
            }
            log.write(format!("{}.{}", one.event.order, one.event.part));
            Ok(())
        };
        let orders: Vec<u64> = batch.iter().map(|one| one.event.order).collect();
        assert!(
            orders
                .iter()
                .all(|order| orders.iter().filter(|other| *other == order).count() == 1)
        );
        batch.into_iter().map(one).collect()
    }
    let (bus, log) = (Bus::memory(), Log::default());
    let router = Router::new().on_batch(Batching::of(4), poor).retry(quick(3));
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    for part in 0..20 {
        for order in 0..6 {
            bus.publish(&Placed { order, part }).await.unwrap();
        }
    }
    settle().await;
    for order in 0..6 {
        let of_order = |line: &String| line.strip_prefix(&format!("{order}.")).map(str::to_owned);
        let parts: Vec<String> = log.lines().iter().filter_map(of_order).collect();
        let expected: Vec<String> = (0..20).map(|part| part.to_string()).collect();
        assert_eq!(parts, expected, "order {order}");
    }
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wrong_number_of_answers_acknowledges_nothing() {
    async fn lazy(State(log): State<Log>, batch: Vec<Batched<Placed>>) -> Vec<()> {
        log.write(line(&batch));
        batch.into_iter().skip(1).map(|_| ()).collect()
    }
    let (bus, log) = (Bus::memory(), Log::default());
    let router = Router::new().on_batch(Batching::of(2), lazy).retry(quick(2));
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    publish(&bus, 1..3).await;
    settle().await;
    assert_eq!(log.lines(), ["1.0/1 2.0/1", "1.0/2 2.0/2"]);
    assert_eq!(reasons(&bus, "order").await.len(), 2);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_error_or_a_panic_of_the_whole_is_each_messages() {
    async fn whole(State(log): State<Log>, batch: Vec<Batched<Placed>>) -> Result<(), HandlerError> {
        log.write(line(&batch));
        match (batch[0].event.order, batch[0].attempt) {
            (order, _) if order <= 2 => Err(HandlerError::permanent("never")),
            (order, 1) if order <= 4 => Err(refused()),
            (order, 1) if order <= 6 => panic!("boom"),
            (order, _) if order <= 6 => Ok(()),
            _ => panic!("boom for good"),
        }
    }
    let (memory, log) = (Memory::new(), Log::default());
    let bus = memory.connect();
    let router = Router::new().on_batch(Batching::of(2), whole).retry(quick(2));
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    for first in [1, 3, 5, 7] {
        publish(&bus, first..first + 2).await;
        settle().await;
    }
    assert_eq!(
        log.lines(),
        [
            "1.0/1 2.0/1",
            "3.0/1 4.0/1",
            "3.0/2 4.0/2",
            "5.0/1 6.0/1",
            "5.0/2 6.0/2",
            "7.0/1 8.0/1",
            "7.0/2 8.0/2"
        ]
    );
    let mut reasons = reasons(&bus, "order").await;
    assert!(
        reasons
            .drain(2..)
            .all(|reason| reason.ends_with("the handler panicked: boom for good"))
    );
    assert_eq!(reasons, ["never", "never"]);
    assert_eq!(memory.backlog()[0].in_flight, 0);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_given_up_alone() {
    let (bus, log) = (Bus::memory(), Log::default());
    let router = Router::new().on_batch(Batching::of(2), note);
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    publish(&bus, 1..2).await;
    let garbage = Message::new("{").header(name::TYPE, Placed::NAME);
    bus.publish_to("order", [garbage]).await.unwrap();
    publish(&bus, 2..3).await;
    settle().await;
    assert_eq!(log.lines(), ["1.0/1 2.0/1"]);
    assert_eq!(reasons(&bus, "order").await.len(), 1);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_hands_out_what_has_gathered() {
    let (memory, log) = (Memory::new(), Log::default());
    let bus = memory.connect();
    let router = Router::new().on_batch(Batching::of(9).linger(10 * SECOND), note);
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    publish(&bus, 1..3).await;
    tokio::time::sleep(SECOND).await;
    running.stop().await.unwrap();
    assert_eq!(log.lines(), ["1.0/1 2.0/1"]);
    assert_eq!((memory.backlog()[0].waiting, memory.backlog()[0].in_flight), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_has_gathered_at_the_deadline_is_given_back_and_was_no_attempt() {
    let (memory, log) = (Memory::new(), Log::default());
    let bus = memory.connect();
    publish(&bus, 1..3).await;
    let router = || Router::new().on_batch(Batching::of(9).linger(10 * SECOND), note);
    let first = Running::start(router().drain(SECOND).with_state(log.clone()), &bus).await;
    tokio::time::sleep(SECOND).await;
    first.stop().await.unwrap();
    assert!(log.lines().is_empty());
    assert_eq!((memory.backlog()[0].waiting, memory.backlog()[0].in_flight), (2, 0));
    let second = Running::start(router().with_state(log.clone()), &bus).await;
    tokio::time::sleep(SECOND).await;
    second.task.abort();
    let third = Running::start(router().with_state(log.clone()), &bus).await;
    settle().await;
    assert_eq!(log.lines(), ["1.0/1 2.0/1"]);
    third.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_ends_with_the_last_who_waits_for_it() {
    struct Ends(Log);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.write("ends");
        }
    }
    async fn stuck(State(log): State<Log>, batch: Vec<Batched<Placed>>) {
        log.write(line(&batch));
        let _ends = Ends(log);
        std::future::pending().await
    }
    let (bus, log) = (Bus::memory(), Log::default());
    let layer = TimeoutLayer::new(SECOND);
    let router = Router::new()
        .on_batch(Batching::of(2), stuck)
        .layer(layer)
        .retry(quick(1));
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    publish(&bus, 1..3).await;
    settle().await;
    assert_eq!(log.lines(), ["1.0/1 2.0/1", "ends"]);
    assert_eq!(reasons(&bus, "order").await.len(), 2);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_that_has_left_is_in_no_batch() {
    let (bus, log) = (Bus::memory(), Log::default());
    let layer = TimeoutLayer::new(2 * SECOND);
    let batching = Batching::of(3).linger(60 * SECOND);
    let router = Router::new().on_batch(batching, note).layer(layer).retry(quick(2));
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    publish(&bus, 1..2).await;
    tokio::time::sleep(SECOND).await;
    publish(&bus, 2..3).await;
    // The first has left and come again; the second is there still.
    tokio::time::sleep(SECOND * 3 / 2).await;
    publish(&bus, 3..4).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(log.lines(), ["1.0/2 2.0/1 3.0/1"]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_everybody_has_left_is_not_joined() {
    let (bus, log) = (Bus::memory(), Log::default());
    let layer = TimeoutLayer::new(2 * SECOND);
    let batching = Batching::of(2).linger(3 * SECOND);
    let router = Router::new().on_batch(batching, note).layer(layer).retry(quick(1));
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    publish(&bus, 1..2).await;
    tokio::time::sleep(10 * SECOND).await;
    publish(&bus, 2..3).await;
    tokio::time::sleep(SECOND).await;
    assert!(log.lines().is_empty(), "its linger begins anew");
    publish(&bus, 3..4).await;
    settle().await;
    assert_eq!(log.lines(), ["2.0/1 3.0/1"]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_what_may_be_in_flight_is_refused() {
    let router = Router::new()
        .on_batch(Batching::of(65), note)
        .with_state(Log::default());
    let refused = router.subscribe(Bus::memory().group("g")).await;
    assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
}

#[derive(Debug, Serialize, Deserialize)]
struct StockLow {
    order: u64,
}
impl Event for StockLow {
    const NAME: &'static str = "stock.low";
}

#[tokio::test(start_paused = true)]
async fn each_message_emits_its_own_and_layers_see_it_alone() {
    async fn watch(State(log): State<Log>, batch: Vec<Batched<Placed>>) -> Vec<Emit<StockLow>> {
        log.write(line(&batch));
        let low = |one: Batched<Placed>| Emit(StockLow { order: one.event.order });
        batch.into_iter().map(low).collect()
    }
    let (bus, log) = (Bus::memory(), Log::default());
    let mut low = bus.subscribe(Subscribe::new("stock", "watcher")).await.unwrap();
    let router = Router::new().on_batch(Batching::of(2), watch).layer(Duplicate);
    let running = Running::start(router.with_state(log.clone()), &bus).await;
    publish(&bus, 1..3).await;
    settle().await;
    assert_eq!(log.lines(), ["1.0/1 2.0/1", "1.0/1 2.0/1"]);
    let mut causes = Vec::new();
    for _ in 0..4 {
        let delivery = low.next().await.unwrap().unwrap();
        let stock: StockLow = codec::decode("stock.low", &delivery.message.payload).unwrap().unwrap();
        causes.push((stock.order, delivery.message.id));
        delivery.ack().await.unwrap();
    }
    causes.sort_unstable();
    causes.dedup();
    assert_eq!(causes.iter().map(|(order, _)| *order).collect::<Vec<_>>(), [1, 2]);
    running.stop().await.unwrap();
}

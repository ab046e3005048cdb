use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};
use tower::timeout::TimeoutLayer;

use super::{Incoming, Route};
use crate::{
    Capabilities, Deliveries, Error, Order, OrderScope, Receipt, Result, Subscribe, Topic, Transport, headers::name,
    memory::Memory, prelude::*,
};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Placed {
    order: u64,
}
impl Event for Placed {
    const NAME: &'static str = "order.placed";
    fn key(&self) -> Option<Key> {
        Some(self.order.into())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Cancelled {
    order: u64,
}
impl Event for Cancelled {
    const NAME: &'static str = "order.cancelled";
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StockLow {
    order: u64,
}
impl Event for StockLow {
    const NAME: &'static str = "stock.low";
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Inside;
impl Event for Inside {
    const NAME: &'static str = "inside.only";
    fn topic() -> Option<Topic> {
        None
    }
}

/// What handlers saw, in order.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn write(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
    fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|other| *other == line).count()
    }
}

/// A router that runs until it is stopped.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
}

impl Running {
    async fn start(router: Router, bus: &Bus) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let router = router.subscribe(bus.group("g")).await.unwrap();
        let task = tokio::spawn(router.run(async move { stopped.await.unwrap_or_default() }));
        Self { stop, task }
    }
    async fn stop(self) -> Result<()> {
        self.stop.send(()).ok();
        self.task.await.unwrap()
    }
}

/// Lets everything happen that is due within an hour.
async fn settle() {
    tokio::time::sleep(Duration::from_hours(1)).await;
}

fn quick(attempts: u32) -> Retry {
    Retry::exponential(Duration::from_millis(10)..Duration::from_millis(20)).attempts(attempts)
}

async fn reasons(bus: &Bus, topic: &'static str) -> Vec<(String, u32)> {
    let letters = bus.dead_letters(topic, "g").unwrap().list(None, 100).await.unwrap();
    letters
        .into_iter()
        .map(|letter| (letter.last.reason, letter.last.attempts))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_last_argument_is_the_route_and_the_others_are_extracted() {
    async fn placed(State(log): State<Log>, Attempt(attempt): Attempt, key: Key, placed: Placed) {
        log.write(format!("placed {} {} {attempt}", placed.order, key.0));
    }
    async fn cancelled(State(log): State<Log>, headers: Headers, cancelled: Cancelled) {
        log.write(format!("{} {}", headers.get(name::TYPE).unwrap(), cancelled.order));
    }
    let (bus, log) = (Bus::memory(), Log::default());
    let router = Router::new().on(placed).on(cancelled).with_state(log.clone());
    let running = Running::start(router, &bus).await;
    bus.publish(&Placed { order: 7 }).await.unwrap();
    bus.publish(&Cancelled { order: 8 }).await.unwrap();
    settle().await;
    assert_eq!(log.lines(), ["placed 7 7 1", "order.cancelled 8"]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pattern_and_a_topic_of_it_get_each_message_once() {
    let (bus, log) = (Bus::memory(), Log::default());
    let (card, any) = (log.clone(), log.clone());
    let router = Router::new()
        .route("payment.card", move |Json(cents): Json<u64>| {
            let log = card.clone();
            async move { log.write(format!("card {cents}")) }
        })
        .route("payment.*", move |Json(cents): Json<u64>| {
            let log = any.clone();
            async move { log.write(format!("any {cents}")) }
        });
    let running = Running::start(router, &bus).await;
    bus.publish_to("payment.card", [Message::json(&1).unwrap()])
        .await
        .unwrap();
    bus.publish_to("payment.cash", [Message::json(&2).unwrap()])
        .await
        .unwrap();
    settle().await;
    assert_eq!(log.lines(), ["card 1", "any 1", "any 2"]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn errors_are_judged_by_their_class() {
    async fn fail(State(log): State<Log>, placed: Placed) -> Result<(), HandlerError> {
        log.write(placed.order.to_string());
        match placed.order {
            1 => Err(HandlerError::permanent("no such sku")),
            2 => Err(std::io::Error::other("refused").into()),
            3 => panic!("boom {}", placed.order),
            _ => Ok(()),
        }
    }
    let (bus, log) = (Bus::memory(), Log::default());
    let running = Running::start(Router::new().on(fail).retry(quick(3)).with_state(log.clone()), &bus).await;
    for order in 1..=4 {
        bus.publish(&Placed { order }).await.unwrap();
        settle().await;
    }
    let garbage = Message::new("{").header(name::TYPE, Placed::NAME);
    let unknown = Message::new("{}").header(name::TYPE, "order.unheard-of");
    bus.publish_to("order", [garbage, unknown, Message::new("untyped")])
        .await
        .unwrap();
    settle().await;
    assert_eq!(["1", "2", "3", "4"].map(|line| log.count(line)), [1, 3, 3, 1]);
    let reasons = reasons(&bus, "order").await;
    assert_eq!(reasons[0], ("no such sku".into(), 1));
    assert_eq!(reasons[1], ("gave up after attempt 3: refused".into(), 3));
    assert_eq!(
        reasons[2],
        ("gave up after attempt 3: the handler panicked: boom 3".into(), 3)
    );
    assert!(reasons[3].0.starts_with("cannot be read: "), "{reasons:?}");
    assert_eq!((reasons[3].1, reasons.len()), (1, 4));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_gives_up_its_key_when_it_has_held_it_too_long() {
    async fn fail(State(log): State<Log>, placed: Placed) -> Result<(), HandlerError> {
        log.write(placed.order.to_string());
        Err(std::io::Error::other("refused").into())
    }
    let (bus, log) = (Bus::memory(), Log::default());
    let retry = Retry::exponential(SECOND..SECOND).hold_max(5 * SECOND);
    let running = Running::start(Router::new().on(fail).retry(retry).with_state(log.clone()), &bus).await;
    let start = Instant::now();
    bus.publish_settled(
        &"order".into(),
        vec![crate::codec::message(&Placed { order: 1 }).unwrap()],
    )
    .await;
    assert!(
        start.elapsed() <= 5 * SECOND && start.elapsed() >= 4 * SECOND,
        "{:?}",
        start.elapsed()
    );
    assert!(log.count("1") >= 5);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_done_is_not_run_again_for_one_that_is_not() {
    async fn fine(State(log): State<Log>, _: Placed) {
        log.write("fine");
    }
    async fn poor(State(log): State<Log>, _: Placed) -> Result<(), HandlerError> {
        log.write("poor");
        Err(std::io::Error::other("refused").into())
    }
    async fn broken(State(log): State<Log>, _: Placed) -> Result<(), HandlerError> {
        log.write("broken");
        Err(HandlerError::permanent("never"))
    }
    let (bus, log) = (Bus::memory(), Log::default());
    let router = Router::new()
        .on(broken)
        .on(poor)
        .on(fine)
        .retry(quick(3))
        .with_state(log.clone());
    let running = Running::start(router, &bus).await;
    bus.publish(&Placed { order: 1 }).await.unwrap();
    settle().await;
    assert_eq!(log.lines(), ["broken", "poor", "fine", "poor", "poor"]);
    assert_eq!(
        reasons(&bus, "order").await,
        [("never; gave up after attempt 3: refused".into(), 3)]
    );
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_emitted_is_the_same_message_each_time_and_carries_its_cause() {
    async fn watch(placed: Placed) -> Emit<StockLow> {
        Emit(StockLow { order: placed.order })
    }
    async fn watch_too(placed: Placed) -> Result<Emit<StockLow>, HandlerError> {
        Ok(Emit(StockLow { order: placed.order }))
    }
    let bus = Bus::memory();
    let mut low = bus.subscribe(Subscribe::new("stock", "watcher")).await.unwrap();
    let running = Running::start(Router::new().on(watch).on(watch_too), &bus).await;
    let cause = crate::codec::message(&Placed { order: 1 })
        .unwrap()
        .header(name::CORRELATION, "c-1");
    bus.publish_to("order", [cause.clone(), cause.clone()]).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..4 {
        let delivery = low.next().await.unwrap().unwrap();
        let headers = &delivery.message.headers;
        assert_eq!(headers.get(name::CORRELATION), Some("c-1"));
        assert_eq!(headers.get(name::CAUSATION), Some(cause.id.to_string().as_str()));
        assert_eq!(headers.get(name::TYPE), Some("stock.low"));
        let trace = cause.id.0.simple().to_string();
        assert_eq!(&headers.get(name::TRACEPARENT).unwrap()[3..35], trace);
        ids.push(delivery.message.id);
        delivery.ack().await.unwrap();
    }
    assert_eq!(ids[..2], ids[2..], "a repeat of the cause makes the same ids");
    assert_ne!(ids[0], ids[1], "two handlers decide two things");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_layer_wraps_what_is_above_it() {
    async fn slow(_: Placed) {
        tokio::time::sleep(60 * SECOND).await;
    }
    async fn slow_too(State(log): State<Log>, _: Cancelled) {
        tokio::time::sleep(60 * SECOND).await;
        log.write("done");
    }
    let stamp = tower::layer::layer_fn(|route: Route<Log>| {
        tower::util::MapRequest::new(route, |incoming: Incoming<Log>| incoming)
    });
    let (bus, log) = (Bus::memory(), Log::default());
    let router = Router::new()
        .on(slow)
        .layer(TimeoutLayer::new(SECOND))
        .layer(stamp)
        .retry(quick(2));
    let router = router.merge(Router::new().on(slow_too)).with_state(log.clone());
    let running = Running::start(router, &bus).await;
    bus.publish(&Placed { order: 1 }).await.unwrap();
    bus.publish(&Cancelled { order: 1 }).await.unwrap();
    settle().await;
    assert_eq!(log.lines(), ["done"]);
    assert_eq!(reasons(&bus, "order").await.len(), 1);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_last_attempt_never_ended_is_given_up_unhandled() {
    async fn handle(State(log): State<Log>, Attempt(attempt): Attempt, _: Placed) {
        log.write(format!("attempt {attempt}"));
    }
    let (bus, log) = (Bus::memory(), Log::default());
    bus.publish(&Placed { order: 1 }).await.unwrap();
    bus.publish(&Placed { order: 2 }).await.unwrap();
    // Of the one three attempts began and never ended, of the other two.
    let mut deliveries = bus.subscribe(Subscribe::new("order", "g")).await.unwrap();
    for _ in 0..5 {
        drop(deliveries.next().await.unwrap().unwrap());
    }
    drop(deliveries);
    let router = Router::new().on(handle).retry(quick(3)).with_state(log.clone());
    let running = Running::start(router, &bus).await;
    settle().await;
    assert_eq!(log.lines(), ["attempt 3"]);
    let reasons = reasons(&bus, "order").await;
    assert!(
        reasons.len() == 1 && reasons[0].0.contains("never came to an end"),
        "{reasons:?}"
    );
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dead_letters_go_to_the_topic_that_is_named() {
    async fn fail(_: Placed) -> Result<(), HandlerError> {
        Err(HandlerError::permanent("no such sku"))
    }
    let bus = Bus::memory();
    let running = Running::start(Router::new().on(fail).dead_letters("order.dead"), &bus).await;
    bus.publish(&Placed { order: 1 }).await.unwrap();
    let mut dead = bus.subscribe(Subscribe::new("order.dead", "undertaker")).await.unwrap();
    let delivery = dead.next().await.unwrap().unwrap();
    let header = |name| delivery.message.headers.get(name);
    assert_eq!(header(name::DEAD_REASON), Some("no such sku"));
    assert_eq!(
        (header(name::DEAD_TOPIC), header(name::DEAD_GROUP)),
        (Some("order"), Some("g"))
    );
    assert_eq!(header(name::DEAD_ATTEMPTS), Some("1"));
    running.stop().await.unwrap();
    assert!(reasons(&bus, "order").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_handlers_finish_and_takes_nothing_new() {
    async fn slow(State(log): State<Log>, placed: Placed) {
        tokio::time::sleep(5 * SECOND).await;
        log.write(placed.order.to_string());
    }
    let (memory, log) = (Memory::new(), Log::default());
    let bus = memory.connect();
    let running = Running::start(Router::new().on(slow).with_state(log.clone()), &bus).await;
    bus.publish(&Placed { order: 1 }).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let stop = tokio::spawn(running.stop());
    tokio::time::sleep(SECOND).await;
    bus.publish(&Placed { order: 2 }).await.unwrap();
    stop.await.unwrap().unwrap();
    assert_eq!(log.lines(), ["1"]);
    let backlog = &memory.backlog()[0];
    assert_eq!((backlog.waiting, backlog.in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_done_at_the_deadline_is_given_back_and_was_no_attempt() {
    async fn stuck(State(log): State<Log>, Attempt(attempt): Attempt, _: Placed) {
        log.write(format!("attempt {attempt}"));
        std::future::pending().await
    }
    let (bus, log) = (Bus::memory(), Log::default());
    for _ in 0..2 {
        let running = Running::start(Router::new().on(stuck).drain(3 * SECOND).with_state(log.clone()), &bus).await;
        bus.publish(&Placed { order: 1 }).await.unwrap();
        tokio::time::sleep(SECOND).await;
        let start = Instant::now();
        running.stop().await.unwrap();
        assert_eq!(start.elapsed(), 3 * SECOND);
    }
    assert_eq!(log.lines(), ["attempt 1", "attempt 1"]);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_router_gives_back_what_it_had() {
    async fn stuck(State(log): State<Log>, Attempt(attempt): Attempt, _: Placed) {
        log.write(format!("attempt {attempt}"));
        std::future::pending().await
    }
    let (bus, log) = (Bus::memory(), Log::default());
    bus.publish(&Placed { order: 1 }).await.unwrap();
    for _ in 0..2 {
        let running = Running::start(Router::new().on(stuck).with_state(log.clone()), &bus).await;
        tokio::time::sleep(SECOND).await;
        running.task.abort();
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(log.lines(), ["attempt 1", "attempt 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_closed_ends_the_router_with_an_error() {
    let bus = Bus::memory();
    let running = Running::start(Router::new().on(async |_: Placed| {}), &bus).await;
    tokio::time::sleep(SECOND).await;
    bus.close().await.unwrap();
    assert!(matches!(running.task.await.unwrap(), Err(Error::Closed)));
    let idle = Running::start(Router::new(), &Bus::memory()).await;
    idle.stop().await.unwrap();
}

/// Promises nothing and is never reached.
struct Humble;

impl Transport for Humble {
    fn name(&self) -> &'static str {
        "humble"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            order_scope: OrderScope::Process,
            ..Capabilities::default()
        }
    }
    async fn publish(&self, _: &Topic, _: Vec<Message>) -> Vec<Result<Receipt>> {
        unreachable!("refused before")
    }
    async fn subscribe(&self, _: Subscribe) -> Result<Deliveries> {
        unreachable!("refused before")
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_the_transport_promises_is_refused_at_the_start() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    async fn any(_: Message) {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
    let bus = Bus::new(Humble);
    let router = || Router::new().route("order", any);
    for router in [
        router().route("payment.*", any),
        router().order_scope(OrderScope::Group),
        router().order(Order::None),
        router().max_in_flight(0),
    ] {
        let end = router.run(bus.group("g"), std::future::pending()).await;
        assert!(
            matches!(
                end,
                Err(Error::Unsupported {
                    transport: "humble",
                    ..
                })
            ),
            "{end:?}"
        );
    }
    let inside = Router::new().on(async |_: Inside| {});
    let end = inside.run(bus.group("g"), std::future::pending()).await;
    assert!(matches!(end, Err(Error::NotPublished { event: "inside.only" })));
    assert!(matches!(bus.publish(&Inside).await, Err(Error::NotPublished { .. })));
    assert_eq!(CALLS.load(Ordering::Relaxed), 0);
}

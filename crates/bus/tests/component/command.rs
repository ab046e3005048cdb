//! A command has one handler, reaches it or fails, and is answered where somebody asks.

use std::time::Duration;

use futures_util::StreamExt;
use sagamill_bus::{
    AskError, Error, Groups, Requests, Subscribe, codec,
    headers::name,
    layer::Duplicate,
    memory::{Limits, Memory},
    prelude::*,
};
use serde::{Deserialize, Serialize};

use crate::kit::{Log, Running, SECOND, nothing_is_left, quick, reasons, refused, settle};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reserve {
    order: u64,
    pieces: u32,
}
impl Command for Reserve {
    const NAME: &'static str = "inventory.reserve";
    type Reply = Reserved;
    type Rejection = SoldOut;
    fn key(&self) -> Option<Key> {
        Some(self.order.into())
    }
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reserved {
    shelf: String,
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SoldOut {
    left: u32,
}

const TOPIC: &str = "inventory.commands";

fn pieces(pieces: u32) -> Reserve {
    Reserve { order: 1, pieces }
}

/// Has ten pieces; is slow, fails and panics where it is asked to.
async fn reserve(
    State(log): State<Log>,
    Attempt(attempt): Attempt,
    reserve: Reserve,
) -> Result<Answer<Reserved, SoldOut>, HandlerError> {
    log.write(format!("{}/{attempt}", reserve.pieces));
    match reserve.pieces {
        0 => Err(HandlerError::permanent("nothing to reserve")),
        1..=10 => Ok(Done(Reserved { shelf: "A1".into() })),
        11..=99 => Ok(Rejected(SoldOut { left: 10 })),
        100 if attempt == 1 => Err(refused()),
        100 => Ok(Done(Reserved { shelf: "B2".into() })),
        101 => Err(refused()),
        102 => {
            tokio::time::sleep(8 * SECOND).await;
            Ok(Done(Reserved { shelf: "late".into() }))
        }
        _ => panic!("boom"),
    }
}

fn inventory(log: &Log) -> Router {
    Router::new()
        .on_command(reserve)
        .retry(quick(2))
        .with_state(log.clone())
}

async fn other(_: Reserve) -> Answer<Reserved, SoldOut> {
    Rejected(SoldOut { left: 0 })
}

#[tokio::test(start_paused = true)]
async fn a_second_handler_of_a_command_is_refused_and_both_are_named() {
    let named = |error: Error| match error {
        Error::TwoHandlers { command, first, second } => {
            assert_eq!(command, "inventory.reserve");
            assert!(
                first.ends_with("::reserve") && second.ends_with("::other"),
                "{first} {second}"
            );
        }
        other => panic!("{other:?}"),
    };
    let (bus, log) = (Bus::memory(), Log::default());
    let router = || inventory(&log);
    let both = router().on_command(other).subscribe(bus.group("g")).await;
    named(both.unwrap_err());
    let merged = router()
        .merge(Router::new().on_command(other))
        .subscribe(bus.group("g"))
        .await;
    named(merged.unwrap_err());
    let groups = Groups::new()
        .with("a", router())
        .with("b", Router::new().on_command(other));
    named(groups.subscribe(&bus).await.unwrap_err());
    router().subscribe(bus.group("g")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_command_reaches_its_handler_in_order_of_its_key_or_fails() {
    let (bus, log) = (Bus::memory(), Log::default());
    let nobody = bus.send(&pieces(1)).await;
    assert!(matches!(nobody, Err(Error::NoSubscriber { .. })), "{nobody:?}");
    let running = Running::start(inventory(&log), &bus).await;
    for number in [100, 1, 11, 2] {
        bus.send(&pieces(number)).await.unwrap();
    }
    settle().await;
    assert_eq!(log.lines(), ["100/1", "100/2", "1/1", "11/1", "2/1"]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_command_that_nobody_knows_or_can_read_is_a_dead_letter() {
    let (bus, log) = (Bus::memory(), Log::default());
    let running = Running::start(inventory(&log), &bus).await;
    let unknown = Message::new("{}").header(name::TYPE, "inventory.count");
    let garbage = Message::new("{").header(name::TYPE, Reserve::NAME);
    bus.publish_to(TOPIC, [unknown, garbage]).await.unwrap();
    settle().await;
    let reasons = reasons(&bus, TOPIC).await;
    assert_eq!(reasons[0], "no handler for the command `inventory.count` here");
    assert!(reasons[1].starts_with("cannot be read: "), "{reasons:?}");
    assert!(log.lines().is_empty());
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_asks_gets_the_reply_or_the_rejection() {
    let (memory, log) = (Memory::new(), Log::default());
    let bus = memory.connect();
    let running = Running::start(inventory(&log), &bus).await;
    let requests = Requests::start(&bus, "web-1").await.unwrap();
    let ask = |number| {
        let requests = requests.clone();
        async move { requests.ask(&pieces(number), 5 * SECOND).await.unwrap() }
    };
    let shelf = |shelf: &str| Done(Reserved { shelf: shelf.into() });
    // All at once: each gets its own.
    let answers = tokio::join!(ask(1), ask(11), ask(100));
    assert_eq!(answers, (shelf("A1"), Rejected(SoldOut { left: 10 }), shelf("B2")));
    assert_eq!(requests.waiting(), 0);
    settle().await;
    nothing_is_left(&memory);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_process_gets_its_own_replies() {
    let (bus, log) = (Bus::memory(), Log::default());
    let running = Running::start(inventory(&log), &bus).await;
    let first = Requests::start(&bus, "web-1").await.unwrap();
    let second = Requests::start(&bus, "web-2").await.unwrap();
    for requests in [&first, &second, &first] {
        assert!(matches!(requests.ask(&pieces(1), SECOND).await, Ok(Done(_))));
    }
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_asks_hears_that_the_command_was_given_up() {
    let (bus, log) = (Bus::memory(), Log::default());
    let requests = Requests::start(&bus, "web-1").await.unwrap();
    // A command must reach somebody also when it is dead.
    let mut dead = bus
        .subscribe(Subscribe::new("inventory.dead", "undertaker"))
        .await
        .unwrap();
    for router in [inventory(&log), inventory(&log).dead_letters("inventory.dead")] {
        let running = Running::start(router, &bus).await;
        for (number, why) in [
            (0, "nothing to reserve"),
            (101, "gave up after attempt 2: refused"),
            (999, "gave up after attempt 2: the handler panicked: boom"),
        ] {
            match requests.ask(&pieces(number), 5 * SECOND).await {
                Err(AskError::Failed { reason }) => assert_eq!(reason, why),
                other => panic!("{other:?}"),
            }
        }
        running.stop().await.unwrap();
    }
    assert_eq!(reasons(&bus, TOPIC).await.len(), 3);
    assert!(dead.next().await.unwrap().is_ok());
    // Sent without asking, a death is nobody's business.
    let running = Running::start(inventory(&log), &bus).await;
    bus.send(&pieces(0)).await.unwrap();
    settle().await;
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_death_is_not_told_before_it_is_settled() {
    let limits = Limits {
        dead_letters: 0,
        ..Limits::default()
    };
    let (bus, log) = (Memory::with(limits).connect(), Log::default());
    let running = Running::start(inventory(&log), &bus).await;
    let requests = Requests::start(&bus, "web-1").await.unwrap();
    let asked = requests.ask(&pieces(0), 5 * SECOND).await;
    assert!(
        matches!(asked, Err(AskError::TimedOut { within }) if within == 5 * SECOND),
        "{asked:?}"
    );
    assert!(
        log.count("0/1") > 1 || log.lines().len() > 1,
        "it comes again: {:?}",
        log.lines()
    );
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_late_or_comes_twice_is_passed_over() {
    let (memory, log) = (Memory::new(), Log::default());
    let bus = memory.connect();
    let running = Running::start(inventory(&log).layer(Duplicate), &bus).await;
    let requests = Requests::start(&bus, "web-1").await.unwrap();
    let late = requests.ask(&pieces(102), 5 * SECOND).await;
    assert!(matches!(late, Err(AskError::TimedOut { .. })), "{late:?}");
    assert_eq!(requests.waiting(), 0);
    settle().await;
    for number in [1, 11, 2] {
        assert!(requests.ask(&pieces(number), 5 * SECOND).await.is_ok());
    }
    // A stranger's message on the topic is no reply to anything.
    bus.publish_to("web-1.replies", [Message::new("tea")]).await.unwrap();
    settle().await;
    let replies = memory.backlog();
    let replies = replies.iter().find(|backlog| backlog.group == "web-1").unwrap();
    assert_eq!((replies.waiting, replies.in_flight), (0, 0));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_dropped_leaves_nothing_behind() {
    let (bus, log) = (Bus::memory(), Log::default());
    let running = Running::start(inventory(&log), &bus).await;
    let requests = Requests::start(&bus, "web-1").await.unwrap();
    for number in 0..3 {
        let reserve = pieces(102);
        let asking = requests.ask(&reserve, 60 * SECOND);
        let asking = tokio::time::timeout(Duration::from_millis(number), asking);
        assert!(asking.await.is_err());
    }
    let (reserve, other) = (pieces(102), requests.clone());
    let task = tokio::spawn(async move { other.ask(&reserve, 60 * SECOND).await });
    tokio::time::sleep(SECOND).await;
    assert_eq!(requests.waiting(), 1);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(requests.waiting(), 0);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_command_that_cannot_be_published_fails_at_once() {
    let bus = Bus::memory();
    let requests = Requests::start(&bus, "web-1").await.unwrap();
    let asked = requests.ask(&pieces(1), 60 * SECOND).await;
    assert!(
        matches!(asked, Err(AskError::Bus(Error::NoSubscriber { .. }))),
        "{asked:?}"
    );
    assert_eq!(requests.waiting(), 0);
    let unnamed = Requests::start(&bus, "not a name").await;
    assert!(matches!(unnamed, Err(Error::InvalidTopic { .. })), "{unnamed:?}");
}

#[tokio::test(start_paused = true)]
async fn callers_hear_that_the_connection_was_closed() {
    let (memory, log) = (Memory::new(), Log::default());
    let bus = memory.connect();
    let running = Running::start(inventory(&log), &memory.connect()).await;
    let requests = Requests::start(&bus, "web-1").await.unwrap();
    let waiting = requests.clone();
    let waiting = tokio::spawn(async move { waiting.ask(&pieces(102), 60 * SECOND).await });
    tokio::time::sleep(SECOND).await;
    let closed = tokio::time::Instant::now();
    bus.close().await.unwrap();
    let first = waiting.await.unwrap();
    let next = requests.ask(&pieces(1), 60 * SECOND).await;
    assert!(matches!(first, Err(AskError::Bus(Error::Closed))), "{first:?}");
    assert!(matches!(next, Err(AskError::Bus(Error::Closed))), "{next:?}");
    assert!(closed.elapsed() < SECOND);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn with_the_last_clone_the_subscription_ends() {
    let memory = Memory::new();
    let bus = memory.connect();
    let requests = Requests::start(&bus, "web-1").await.unwrap();
    let clone = requests.clone();
    let waiting = || memory.backlog()[0].waiting;
    for (requests, left) in [(requests, 0), (clone, 1)] {
        drop(requests);
        settle().await;
        bus.publish_to("web-1.replies", [Message::new("tea")]).await.unwrap();
        settle().await;
        assert_eq!(waiting(), left);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_published_is_not_acknowledged() {
    let (bus, log) = (Bus::memory(), Log::default());
    let running = Running::start(inventory(&log), &bus).await;
    let nowhere = codec::command(&pieces(1))
        .unwrap()
        .header(name::REPLY_TO, "not a topic");
    bus.publish_to(TOPIC, [nowhere]).await.unwrap();
    settle().await;
    assert_eq!(log.lines(), ["1/1"]);
    assert_eq!(reasons(&bus, TOPIC).await.len(), 1);
    running.stop().await.unwrap();
}

//! A router over the transport: failures and the stop.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    Harness,
    fixture::{Fixture, number, numbered},
};
use crate::{Attempt, HandlerError, Json, Message, OrderScope, Result, Retry, Router, State};

/// What a handler saw.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<Vec<(usize, u32)>>>);

impl Seen {
    fn note(&self, number: usize, attempt: u32) {
        self.0.lock().expect("no handler panics here").push((number, attempt));
    }
    fn all(&self) -> Vec<(usize, u32)> {
        self.0.lock().expect("no handler panics here").clone()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Number(usize);

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
}

impl Running {
    async fn start<H: Harness>(fixture: &Fixture<'_, H>, router: Router) -> Self {
        let scope = fixture.promised.order_scope.min(OrderScope::Process);
        let router = router.order_scope(scope).subscribe(fixture.bus.group("group")).await;
        let (stop, stopped) = oneshot::channel::<()>();
        let run = router
            .expect("the router starts")
            .run(async move { stopped.await.unwrap_or_default() });
        Self {
            stop,
            task: tokio::spawn(run),
        }
    }
    async fn stop(self) {
        self.stop.send(()).expect("the router runs");
        self.task
            .await
            .expect("the router does not panic")
            .expect("the router stops well");
    }
}

/// Waits until something is so.
async fn until<H: Harness>(harness: &H, what: &str, mut is: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(harness.patience(), wait).await.is_ok(), "{what}");
}

async fn dead<H: Harness>(fixture: &Fixture<'_, H>) -> Vec<(String, u32)> {
    let dead = fixture
        .bus
        .dead_letters(fixture.topic.clone(), "group")
        .expect("there are dead letters");
    let letters = dead.list(None, 100).await.expect("they are listed");
    letters
        .into_iter()
        .map(|letter| (letter.last.reason, letter.last.attempts))
        .collect()
}

fn retry() -> Retry {
    Retry::exponential(Duration::from_millis(5)..Duration::from_millis(20)).attempts(3)
}

/// A message that cannot be decoded is a dead letter at once; what comes after it, also of its key, is handled.
pub async fn an_undecodable_message_does_not_stall<H: Harness>(harness: &H) {
    async fn take(State(seen): State<Seen>, Attempt(attempt): Attempt, Json(Number(number)): Json<Number>) {
        seen.note(number, attempt);
    }
    let (fixture, seen) = (Fixture::new(harness).await, Seen::default());
    let router = Router::new()
        .route(fixture.topic.clone(), take)
        .retry(retry())
        .with_state(seen.clone());
    let running = Running::start(&fixture, router).await;
    fixture
        .publish([
            Message::new("{").key("a"),
            Message::new("1").key("a"),
            Message::new("2"),
        ])
        .await;
    until(harness, "the others are handled", async || seen.all().len() == 2).await;
    until(harness, "the first is a dead letter", async || {
        dead(&fixture).await.len() == 1
    })
    .await;
    assert_eq!(dead(&fixture).await[0].1, 1, "trying again would not help");
    running.stop().await;
}

/// A handler that always fails is tried as often as the policy says, then the message is a dead letter with its reason.
pub async fn a_router_gives_up_after_its_attempts<H: Harness>(harness: &H) {
    async fn fail(State(seen): State<Seen>, Attempt(attempt): Attempt, message: Message) -> Result<(), HandlerError> {
        seen.note(number(&message), attempt);
        Err(std::io::Error::other("out of order").into())
    }
    let (fixture, seen) = (Fixture::new(harness).await, Seen::default());
    let router = Router::new()
        .route(fixture.topic.clone(), fail)
        .retry(retry())
        .with_state(seen.clone());
    let running = Running::start(&fixture, router).await;
    fixture.publish(numbered(7..8)).await;
    until(harness, "it is a dead letter", async || dead(&fixture).await.len() == 1).await;
    assert_eq!(seen.all(), [(7, 1), (7, 2), (7, 3)]);
    let (reason, attempts) = dead(&fixture).await.remove(0);
    assert!(reason.contains("out of order") && attempts == 3, "{reason}, {attempts}");
    running.stop().await;
}

/// A handler that panics has failed once; the message comes again, and others are handled meanwhile.
pub async fn a_panic_in_a_handler_is_a_failed_attempt<H: Harness>(harness: &H) {
    async fn panic_once(State(seen): State<Seen>, Attempt(attempt): Attempt, message: Message) {
        seen.note(number(&message), attempt);
        assert!(attempt > 1 || number(&message) > 0, "on purpose");
    }
    let (fixture, seen) = (Fixture::new(harness).await, Seen::default());
    let router = Router::new()
        .route(fixture.topic.clone(), panic_once)
        .retry(retry())
        .with_state(seen.clone());
    let running = Running::start(&fixture, router).await;
    fixture.publish(numbered(0..3)).await;
    until(harness, "all are handled", async || seen.all().len() == 4).await;
    let mut all = seen.all();
    all.sort_unstable();
    assert_eq!(all, [(0, 1), (0, 2), (1, 1), (2, 1)]);
    running.stop().await;
    assert!(dead(&fixture).await.is_empty());
}

/// A router that is stopped finishes and settles what it has begun: nothing of it comes again.
pub async fn a_stopped_router_settles_its_work<H: Harness>(harness: &H) {
    async fn slow(State(seen): State<Seen>, Attempt(attempt): Attempt, message: Message) {
        seen.note(number(&message), attempt);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let (fixture, seen) = (Fixture::new(harness).await, Seen::default());
    let router = Router::new()
        .route(fixture.topic.clone(), slow)
        .with_state(seen.clone());
    let running = Running::start(&fixture, router).await;
    fixture.publish(numbered(0..5)).await;
    until(harness, "all have begun", async || seen.all().len() == 5).await;
    running.stop().await;
    let again = fixture.subscribe("group").await.maybe_next().await;
    let again = again.map(|delivery| (number(&delivery.message), delivery.attempt));
    assert_eq!(again, None, "it came again, after {:?}", seen.all());
}

//! Routers side by side do not hold up each other, and one router keeps one order.

use std::{future::pending, sync::Arc};

use futures_util::stream;
use sagamill_bus::{
    Capabilities, Deliveries, Error, Groups, Receipt, Result, Subscribe, Topic, Transport, memory::Memory, prelude::*,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::kit::{Log, Placed, SECOND, placed, refused, settle};

#[derive(Debug, Serialize, Deserialize)]
struct Cancelled {
    order: u64,
}
impl Event for Cancelled {
    const NAME: &'static str = "order.cancelled";
    fn key(&self) -> Option<Key> {
        Some(self.order.into())
    }
}

async fn note(State(log): State<Log>, placed: Placed) {
    log.write(format!("placed {}", placed.order));
}

/// Groups that run, and the end of them.
fn start(groups: Groups, bus: &Bus) -> (Arc<Notify>, tokio::task::JoinHandle<Result<()>>) {
    let stop = Arc::new(Notify::new());
    let (bus, stopped) = (bus.clone(), stop.clone());
    let task = tokio::spawn(async move { groups.run(&bus, async move { stopped.notified().await }).await });
    (stop, task)
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_fails_or_is_slow_holds_up_no_other() {
    async fn poor(_: Placed) -> Result<(), HandlerError> {
        Err(refused())
    }
    async fn slow(_: Placed) {
        pending().await
    }
    let (bus, log) = (Bus::memory(), Log::default());
    let groups = Groups::new()
        .with("poor", Router::new().on(poor))
        .with("slow", Router::new().on(slow).max_in_flight(1))
        .with("fine", Router::new().on(note).with_state(log.clone()));
    let (stop, task) = start(groups, &bus);
    tokio::time::sleep(SECOND).await;
    for _ in 0..3 {
        // One key, so that in a group of their own none would come before the first is done.
        bus.publish(&placed(1)).await.unwrap();
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(log.lines(), ["placed 1", "placed 1", "placed 1"]);
    stop.notify_one();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn events_of_one_key_come_to_a_router_in_one_order_whatever_their_type() {
    async fn slowly(State(log): State<Log>, Attempt(attempt): Attempt, placed: Placed) -> Result<(), HandlerError> {
        if attempt == 1 && placed.part == 1 {
            return Err(refused());
        }
        tokio::time::sleep(SECOND).await;
        log.write(format!("placed {}", placed.part));
        Ok(())
    }
    async fn cancelled(State(log): State<Log>, _: Cancelled) {
        log.write("cancelled");
    }
    let (bus, log) = (Bus::memory(), Log::default());
    let router = Router::new().on(slowly).on(cancelled).with_state(log.clone());
    let (stop, task) = start(Groups::new().with("index", router), &bus);
    tokio::time::sleep(SECOND).await;
    for part in 0..3 {
        bus.publish(&Placed { order: 1, part }).await.unwrap();
        bus.publish(&Cancelled { order: 1 }).await.unwrap();
    }
    settle().await;
    let expected = [
        "placed 0",
        "cancelled",
        "placed 1",
        "cancelled",
        "placed 2",
        "cancelled",
    ];
    assert_eq!(log.lines(), expected);
    stop.notify_one();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_named_twice_is_refused() {
    let router = || Router::new().on(note).with_state(Log::default());
    let groups = Groups::new()
        .with("a", router())
        .with("b", router())
        .with("a", router());
    let refused = groups.subscribe(&Bus::memory()).await;
    assert!(matches!(refused, Err(Error::TwoRouters { group }) if group == "a"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_all_finish_and_none_at_all_wait_for_it() {
    async fn slow(State(log): State<Log>, _: Placed) {
        tokio::time::sleep(5 * SECOND).await;
        log.write("done");
    }
    let (memory, log) = (Memory::new(), Log::default());
    let bus = memory.connect();
    let router = || Router::new().on(slow).with_state(log.clone());
    let (stop, task) = start(Groups::new().with("a", router()).with("b", router()), &bus);
    tokio::time::sleep(SECOND).await;
    bus.publish(&placed(1)).await.unwrap();
    tokio::time::sleep(SECOND).await;
    stop.notify_one();
    task.await.unwrap().unwrap();
    assert_eq!(log.lines(), ["done", "done"]);
    assert!(
        memory
            .backlog()
            .iter()
            .all(|backlog| backlog.in_flight + backlog.waiting == 0)
    );
    let (stop, task) = start(Groups::new(), &bus);
    tokio::time::sleep(SECOND).await;
    assert!(!task.is_finished());
    stop.notify_one();
    task.await.unwrap().unwrap();
}

/// A transport of which one group can never go on.
struct Partly(Bus);

impl Transport for Partly {
    fn name(&self) -> &'static str {
        "partly"
    }
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
    async fn publish(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        self.0.publish_each(topic, batch).await
    }
    async fn subscribe(&self, request: Subscribe) -> Result<Deliveries> {
        if request.group == "broken" {
            let gone = async {
                tokio::time::sleep(SECOND).await;
                Err(Error::Unusable("gone".into()))
            };
            return Ok(Box::pin(stream::once(gone)));
        }
        self.0.subscribe(request).await
    }
    async fn close(&self) -> Result<()> {
        self.0.clone().close().await
    }
}

#[tokio::test(start_paused = true)]
async fn where_one_cannot_go_on_the_others_finish_and_the_reason_is_told() {
    async fn slow(State(log): State<Log>, _: Placed) {
        tokio::time::sleep(5 * SECOND).await;
        log.write("done");
    }
    let (bus, log) = (Bus::new(Partly(Bus::memory())), Log::default());
    let router = || Router::new().on(slow).with_state(log.clone());
    let groups = Groups::new().with("a", router()).with("broken", router());
    let groups = groups.subscribe(&bus).await.unwrap();
    bus.publish(&placed(1)).await.unwrap();
    let end = groups.run(pending()).await;
    assert_eq!(log.lines(), ["done"]);
    assert!(matches!(end, Err(Error::Unusable(_))), "{end:?}");
}

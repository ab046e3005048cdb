//! A process that dies with its bus in memory: what its groups had not settled comes to them again.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use futures_util::StreamExt;
use sagamill_bus::{Bus, MessageId, Subscribe};
use tokio::{sync::Notify, task::JoinSet};

use super::{Paced, checkpoint};
use crate::{Append, EventStore, Expected, NewEvent, Position, Relay, conformance::Subject};

const GROUPS: [&str; 2] = ["inventory", "audit"];

/// What each group has handled, over all processes.
#[derive(Default)]
struct Handled {
    groups: Mutex<[BTreeSet<MessageId>; 2]>,
    /// A group may handle another message only while this is not used up.
    left: Mutex<usize>,
    stopped: Notify,
}

impl Handled {
    /// Whether the process lives on.
    fn step(&self) -> bool {
        let mut left = self.left.lock().unwrap();
        if *left == 0 {
            self.stopped.notify_one();
            return false;
        }
        *left -= 1;
        true
    }
}

/// One process: its bus, its groups, its relay. Aborting the tasks kills it.
async fn live(store: &EventStore, subject: &Paced, handled: &Arc<Handled>) -> JoinSet<()> {
    let (bus, mut tasks) = (Bus::memory(), JoinSet::new());
    for (n, group) in GROUPS.iter().enumerate() {
        let mut deliveries = bus.subscribe(Subscribe::new("order", *group)).await.unwrap();
        let handled = handled.clone();
        tasks.spawn(async move {
            while let Some(delivery) = deliveries.next().await {
                let delivery = delivery.unwrap();
                if !handled.step() {
                    std::future::pending::<()>().await;
                }
                if delivery.attempt == 1 && delivery.message.id.0.as_u128() % 3 == n as u128 {
                    delivery.retry(None).await.unwrap();
                    continue;
                }
                let id = delivery.message.id;
                delivery.ack().await.unwrap();
                handled.groups.lock().unwrap()[n].insert(id);
            }
        });
    }
    let relay = Relay::new(store, &bus).lease(subject.ttl());
    tasks.spawn(async move { relay.run(std::future::pending()).await.unwrap() });
    tasks
}

/// Killed after each number of deliveries in turn, and started again: every event reaches every group, and none is left.
pub async fn killed_process_loses_no_event_for_any_group(subject: Arc<dyn Subject>) {
    const EVENTS: usize = 12;
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    for n in 0..EVENTS {
        let event = NewEvent {
            topic: Some("order".into()),
            ..NewEvent::new("order.placed", &b"{}"[..])
        };
        let append = Append {
            stream: format!("order-{}", n % 4).into(),
            expected: Expected::Any,
            events: vec![event],
        };
        store.commit(append).await.unwrap();
    }
    let handled = Arc::new(Handled::default());
    for deliveries in 0..8 {
        *handled.left.lock().unwrap() = deliveries;
        let mut process = live(&store, subject, &handled).await;
        handled.stopped.notified().await;
        process.shutdown().await;
    }
    *handled.left.lock().unwrap() = usize::MAX;
    let mut process = live(&store, subject, &handled).await;
    while checkpoint(&store, "relay").await.position < Position(EVENTS as i64) {
        tokio::time::sleep(subject.ttl() / 20).await;
    }
    process.shutdown().await;
    let all: Vec<_> = handled.groups.lock().unwrap().iter().map(BTreeSet::len).collect();
    assert_eq!(all, [EVENTS, EVENTS]);
    store.close().await;
}

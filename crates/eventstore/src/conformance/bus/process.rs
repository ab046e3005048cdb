//! A process at a bus, that may die, or be stopped for a while.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use sagamill_bus::{Bus, Deliveries, Delivery, Message, Subscribe};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    EventStore, LogTransport,
    conformance::{Paced, stall::Stall},
};

/// A store and a connection of its own. Stopped, nothing that it asks of the database is answered: for ever, it is dead.
pub(super) struct Process {
    pub(super) store: EventStore,
    pub(super) bus: Bus,
    stall: Arc<Stall>,
}

impl Process {
    pub(super) async fn start(subject: &Paced) -> Self {
        let store = subject.open().await;
        let stall = Stall::of(&store);
        let stalled: EventStore = EventStore::over(stall.clone(), store.database().clone());
        let bus = Bus::new(LogTransport::new(&stalled).lease(subject.ttl()));
        Self { store, bus, stall }
    }
    /// Nothing is answered from now on, or everything again.
    pub(super) fn stop(&self, stopped: bool) {
        self.stall.stop(stopped);
    }
    /// The next writes of what became of messages fail.
    pub(super) fn fail_notes(&self, count: u32) {
        self.stall.fail_notes(count);
    }
    /// Stops in good order.
    pub(super) async fn end(self) {
        self.bus.close().await.unwrap();
        self.store.close().await;
    }
    pub(super) async fn subscribe(&self, request: Subscribe) -> Deliveries {
        self.bus.subscribe(request).await.unwrap()
    }
    pub(super) async fn publish(&self, batch: Vec<Message>) {
        self.bus.publish_to(TOPIC, batch).await.unwrap();
    }
}

pub(super) const TOPIC: &str = "order";
pub(super) const GROUP: &str = "inventory";

pub(super) fn request() -> Subscribe {
    Subscribe::new(TOPIC, GROUP)
}

/// Messages with their number as payload, over so many keys.
pub(super) fn keyed(numbers: std::ops::Range<usize>, keys: usize) -> Vec<Message> {
    numbers.map(|n| Message::new(n.to_string()).key(n % keys)).collect()
}

/// Keys that share a shard: one of those that a newcomer gets.
pub(super) fn neighbours(count: usize) -> Vec<String> {
    let keys = (0..).map(|n: u32| n.to_string());
    let shard = |key: &String| xxh3_64(key.as_bytes()) % 64;
    keys.filter(|key| shard(key) == 60).take(count).collect()
}

pub(super) fn number(message: &Message) -> usize {
    std::str::from_utf8(&message.payload).unwrap().parse().unwrap()
}

pub(super) async fn next(deliveries: &mut Deliveries) -> Delivery {
    deliveries.next().await.unwrap().unwrap()
}

/// So many deliveries, each left unsettled.
pub(super) async fn take(deliveries: &mut Deliveries, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(next(deliveries).await);
    }
    taken
}

/// None: nothing came for so long.
pub(super) async fn within(deliveries: &mut Deliveries, time: Duration) -> Option<Delivery> {
    let next = tokio::time::timeout(time, deliveries.next()).await.ok()?;
    Some(next.unwrap().unwrap())
}

//! The coordinator and its participants as processes of their own, each with its own log, and a log between them as the bus.
#![allow(clippy::unwrap_used, reason = "tests")]
mod shop;

use std::path::Path;

use sagamill_bus::Bus;
use sagamill_eventstore::{EventStore, LogTransport, Memory};
use sagamill_saga::prelude::*;
use shop::{Order, Running, World, by_bus, expected, order, participants, price, secs};

/// A process: its store and its connection to the bus.
struct Node {
    store: EventStore,
    bus: Bus,
}

impl Node {
    async fn in_files(folder: &Path, name: &str) -> Self {
        let url = |name: &str| format!("sqlite:{}", folder.join(name).display());
        let store = EventStore::connect(&url(name)).await.unwrap();
        let bus = LogTransport::connect(&url("bus.db")).await.unwrap().lease(secs(2));
        Self {
            store,
            bus: Bus::new(bus),
        }
    }
    fn in_memory(log: &Memory, bus: &Memory) -> Self {
        let (store, bus) = (log.open(), Bus::new(LogTransport::new(&bus.open()).lease(secs(2))));
        Self { store, bus }
    }
    async fn end(self) {
        self.bus.close().await.unwrap();
        self.store.close().await;
    }
}

fn coordinate(node: &Node) -> (Sagas<Order>, Running) {
    let coordinator = Coordinator::new(&node.store).bus(node.bus.clone());
    let sagas = coordinator.register(by_bus()).unwrap();
    let running = Running::coordinator(&coordinator);
    (sagas, running)
}
fn participate(node: &Node, world: &World) -> Running {
    Running::participant(participants(&node.store, world), &node.bus)
}

async fn all_end(sagas: &Sagas<Order>, world: &World, keys: std::ops::Range<u32>) {
    for n in keys {
        let saga = sagas.get(n).await.unwrap();
        let outcome = saga.outcome().await.unwrap();
        assert!(
            matches!(outcome, Outcome::Completed(_) | Outcome::Compensated { .. }),
            "{n}: {outcome:?}"
        );
        assert_eq!(world.of(&n.to_string()), expected(n), "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_with_files_of_their_own_share_a_bus_in_a_third() {
    let (folder, world) = (tempfile::tempdir().unwrap(), World::default());
    let folder = folder.path();
    let order_service = Node::in_files(folder, "orders.db").await;
    let (sagas, coordinating) = coordinate(&order_service);
    // Commands wait in the coordinator's log until somebody is there to take them.
    for n in 0..10 {
        sagas.start(n, order("tea", price(n))).await.unwrap();
    }
    let stock_service = Node::in_files(folder, "stock.db").await;
    let participating = participate(&stock_service, &world);
    all_end(&sagas, &world, 0..10).await;
    // The participants' process stops in good order and starts again, in the midst of it.
    for n in 10..40 {
        sagas.start(n, order("tea", price(n))).await.unwrap();
    }
    participating.end().await;
    stock_service.end().await;
    let stock_service = Node::in_files(folder, "stock.db").await;
    let participating = participate(&stock_service, &world);
    all_end(&sagas, &world, 10..40).await;
    coordinating.end().await;
    participating.end().await;
    order_service.end().await;
    stock_service.end().await;
}

/// Either side is cut off again and again: everything ends, and nothing is done twice.
#[tokio::test(start_paused = true)]
async fn sagas_end_whichever_side_dies() {
    let (orders, stock, bus, world) = (Memory::new(), Memory::new(), Memory::new(), World::default());
    let (mut order_service, mut stock_service) = (Node::in_memory(&orders, &bus), Node::in_memory(&stock, &bus));
    let (mut sagas, mut coordinating) = coordinate(&order_service);
    let mut participating = participate(&stock_service, &world);
    for round in 0..10 {
        for n in round * 5..(round + 1) * 5 {
            sagas.start(n, order("tea", price(n))).await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(u64::from(round) * 7)).await;
        if round % 2 == 0 {
            coordinating.kill().await;
            order_service = Node::in_memory(&orders, &bus);
            (sagas, coordinating) = coordinate(&order_service);
        } else {
            participating.kill().await;
            stock_service = Node::in_memory(&stock, &bus);
            participating = participate(&stock_service, &world);
        }
    }
    for n in 0..50 {
        let outcome = sagas.get(n).await.unwrap().outcome().await.unwrap();
        assert!(
            matches!(outcome, Outcome::Completed(_) | Outcome::Compensated { .. }),
            "{n}: {outcome:?}"
        );
        let mut did = world.of(&n.to_string());
        // The participants' effects are outside their log here: one whose commit was cut off is run again.
        did.dedup();
        assert_eq!(did, expected(n), "{n}");
    }
    coordinating.end().await;
    participating.end().await;
    order_service.end().await;
    stock_service.end().await;
}

//! The coordinator over the log in memory: by local steps, and by participants on the bus.
#![allow(clippy::unwrap_used, reason = "tests")]
mod shop;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sagamill_bus::Bus;
use sagamill_eventstore::EventStore;
use sagamill_saga::{Coordinator, Error, Outcome, prelude::*};
use serde::{Deserialize, Serialize};
use shop::{Running, World, by_bus, locally, order, participants, secs};

#[tokio::test(start_paused = true)]
async fn local_steps_run_in_order_and_cost_four_events() {
    let (store, world) = (EventStore::memory(), World::default());
    let coordinator = Coordinator::new(&store).with_state(world.clone());
    let orders = coordinator.register(locally()).unwrap();
    let running = Running::coordinator(&coordinator);
    let saga = orders.start("a", order("tea", 450)).await.unwrap();
    let outcome = saga.outcome().await.unwrap();
    let Outcome::Completed(state) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(state.reservation, 7);
    assert_eq!(world.of("a"), ["reserve", "charge", "ship"]);
    assert_eq!(store.head().await.unwrap().position.0, 4);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_rejected_pivot_undoes_what_was_done() {
    let (store, world) = (EventStore::memory(), World::default());
    let coordinator = Coordinator::new(&store).with_state(world.clone());
    let orders = coordinator.register(locally()).unwrap();
    let running = Running::coordinator(&coordinator);
    let outcome = orders
        .start("a", order("tea", 5_000))
        .await
        .unwrap()
        .outcome()
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Compensated { .. }), "{outcome:?}");
    assert_eq!(world.of("a"), ["reserve", "release"]);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn steps_by_the_bus_complete_or_are_undone() {
    let (store, theirs, world, bus) = (
        EventStore::memory(),
        EventStore::memory(),
        World::default(),
        Bus::memory(),
    );
    let coordinator = Coordinator::new(&store).bus(bus.clone());
    let orders = coordinator.register(by_bus()).unwrap();
    let served = Running::participant(participants(&theirs, &world), &bus);
    let running = Running::coordinator(&coordinator);
    let sold = orders.start("sold", order("tea", 450)).await.unwrap();
    let gone = orders.start("gone", order("gone", 450)).await.unwrap();
    let declined = orders.start("declined", order("tea", 5_000)).await.unwrap();
    assert!(matches!(sold.outcome().await.unwrap(), Outcome::Completed(_)));
    assert!(matches!(gone.outcome().await.unwrap(), Outcome::Compensated { .. }));
    assert!(matches!(declined.outcome().await.unwrap(), Outcome::Compensated { .. }));
    assert_eq!(world.of("sold"), ["reserve", "charge", "ship"]);
    assert_eq!(world.of("gone"), [""; 0]);
    assert_eq!(world.of("declined"), ["reserve", "release"]);
    running.end().await;
    served.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_starts_one_saga_and_another_input_is_refused() {
    let store = EventStore::memory();
    let orders = Coordinator::new(&store).register(locally()).unwrap();
    let again = Coordinator::new(&store).register(locally()).unwrap();
    let starts = (0..8).map(|n| {
        let orders = if n % 2 == 0 { orders.clone() } else { again.clone() };
        tokio::spawn(async move {
            orders
                .start("a", order("tea", 450))
                .await
                .map(|saga| saga.stream().to_owned())
        })
    });
    for start in starts.collect::<Vec<_>>() {
        assert_eq!(start.await.unwrap().unwrap(), "saga-locally/a");
    }
    assert_eq!(store.head().await.unwrap().position.0, 1);
    let other = orders.start("a", order("coffee", 450)).await;
    assert!(matches!(other, Err(Error::KeyReused { .. })), "{other:?}");
    let unknown = orders.get("b").await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })), "{unknown:?}");
}

/// Whoever holds up the thread holds up its leases: they are in doubt, and nothing is begun under them. They are prolonged
/// all the same, and what was not begun is begun then.
#[tokio::test]
async fn what_was_not_begun_under_a_lease_in_doubt_is_begun_once_it_is_prolonged() {
    const LEASE: Duration = Duration::from_millis(400);
    /// Longer than a lease is trusted, shorter than it lasts.
    const BLOCK: Duration = Duration::from_millis(290);
    const SAGAS: u32 = 12;
    let (store, done) = (EventStore::memory(), Arc::new(AtomicU32::new(0)));
    let coordinator = Coordinator::new(&store).lease(LEASE).with_state(done.clone());
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Empty {}
    async fn block(State(done): State<Arc<AtomicU32>>, _: Empty) -> Answer<()> {
        // Not by tokio's clock, and not in its way.
        std::thread::sleep(BLOCK);
        done.fetch_add(1, Ordering::SeqCst);
        Done(())
    }
    let blocking = Saga::<Empty>::define("blocking")
        .step("block", local(block).no_undo())
        .build();
    let sagas = coordinator.register(blocking).unwrap();
    for n in 0..SAGAS {
        sagas.start(n, Empty {}).await.unwrap();
    }
    // All of them are there to be begun at once.
    let running = Running::coordinator(&coordinator);
    for n in 0..SAGAS {
        let outcome = sagas.get(n).await.unwrap().outcome().await.unwrap();
        assert!(matches!(outcome, Outcome::Completed(_)), "{outcome:?}");
    }
    assert!(done.load(Ordering::SeqCst) >= SAGAS);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn steps_that_ask_need_a_bus() {
    let coordinator = Coordinator::new(&EventStore::memory());
    coordinator.register(by_bus()).unwrap();
    let ran = tokio::time::timeout(secs(1), coordinator.run(std::future::pending()))
        .await
        .unwrap();
    assert!(matches!(ran, Err(Error::NoBus { .. })), "{ran:?}");
}

//! A coordinator that is told to stop hands over what it has: nobody waits for the end of its leases, which are far longer
//! here than a test's patience.

use std::{collections::BTreeSet, time::Duration};

use sagamill_eventstore::EventStore;
use sagamill_saga::prelude::*;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::program::{Build, PATIENCE, Place, expected, wanted};

/// The longest that there is.
const LEASE: Duration = Duration::from_secs(300);
/// Sagas that are started while a process goes.
const SAGAS: u32 = 30;
/// How often one goes.
const ROUNDS: u32 = 4;

/// Who holds something of the coordinators', in the log and in the bus.
async fn owners(log: &EventStore, channel: &EventStore) -> BTreeSet<Uuid> {
    let mut held = log.checkpoints().await.unwrap();
    let in_bus = channel.checkpoints().await.unwrap();
    held.extend(in_bus.into_iter().filter(|of| of.name.contains(".replies")));
    held.into_iter()
        .filter_map(|of| of.owner.map(|(owner, _)| owner))
        .collect()
}
/// Waits until so many coordinators say that they are there.
async fn are_there(log: &EventStore, count: usize) {
    let asker = log.new_id();
    let there = async {
        // Whoever asks says that he is there himself.
        while log.join("saga-definitions", asker, "{}", LEASE).await.unwrap().len() != count + 1 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, there).await.expect("they come");
    log.leave("saga-definitions", asker).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_is_told_to_stop_hands_over_at_once() {
    let Some(place) = Place::make(LEASE, 2 * LEASE).await else {
        return;
    };
    let sagas = place.starter(Build::New);
    let log = place.store.any();
    let channel = EventStore::connect(place.channel.url()).await.unwrap();
    let served = place.serve();
    let mut running = place.start(Build::New);
    are_there(&log, 1).await;
    for round in 0..ROUNDS {
        let keys = round * SAGAS..(round + 1) * SAGAS;
        // The first of them ends before the other comes: whatever is held is held by the one that will go.
        sagas.start(keys.start, wanted(keys.start)).await.unwrap();
        ends(&place, &sagas, keys.start).await;
        let before = owners(&log, &channel).await;
        assert!(before.len() > 1, "it holds something");
        let coming = place.start(Build::New);
        are_there(&log, 2).await;
        for key in keys.start + 1..keys.end {
            sagas.start(key, wanted(key)).await.unwrap();
        }
        // In the midst of them, each time elsewhere.
        sleep(Duration::from_millis(60 * u64::from(round))).await;
        assert!(running.runs());
        assert!(running.end().await.success());
        let left = owners(&log, &channel).await;
        assert!(left.is_disjoint(&before), "it has given back what it held");
        for key in keys.start + 1..keys.end {
            ends(&place, &sagas, key).await;
        }
        running = coming;
    }
    assert!(running.end().await.success());
    assert_eq!(
        owners(&log, &channel).await,
        BTreeSet::new(),
        "nothing is held by those who ended well"
    );
    served.end().await;
    channel.close().await;
    place.end().await;
}

/// Waits for a saga's end, and looks that all was done once, by whomever.
async fn ends(place: &Place, sagas: &Sagas<super::shop::Order, sqlx::Postgres>, key: u32) {
    let saga = sagas.get(key).await.unwrap();
    let Ok(outcome) = timeout(PATIENCE, saga.outcome()).await else {
        panic!("{key}: {:?}", saga.why().await.unwrap());
    };
    assert!(!matches!(outcome.unwrap(), Outcome::Parked { .. }), "{key}");
    assert_eq!(place.did(key).await, expected(key, Build::New), "{key}");
}

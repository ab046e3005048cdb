//! A rolling upgrade: an old and a new build side by side, the new one away for a while, and back.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use jiff::Timestamp;
use sagamill_eventstore::{EventStore, Recorded};
use sagamill_saga::core::{Fact, ParkReason, SagaEvent};
use sagamill_saga::prelude::*;
use sqlx::Postgres;
use tokio::time::{sleep, timeout};

use super::program::{Build, PATIENCE, Place, expected, wanted};
use super::shop::Order;

/// How many sagas run side by side, half of them by each build.
const SAGAS: &str = "SAGAMILL_SAGAS";
/// In the gate.
const SAGAS_FEW: u32 = 60;
/// Long enough that a busy machine does not lose a lease.
const LEASE: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(4);

/// Of each saga of the log, when it was parked or resumed, and by what.
async fn stops(store: &EventStore<Postgres>) -> BTreeMap<String, Vec<(Timestamp, String)>> {
    let mut read = store.read_all().types(["saga.parked", "saga.resumed"]);
    let mut stops: BTreeMap<String, Vec<(Timestamp, String)>> = BTreeMap::new();
    while let Some(event) = read.next().await {
        let event: Recorded = event.unwrap();
        let said = match SagaEvent::decode(&event).unwrap().event.fact {
            Fact::Parked(parked) => {
                assert_eq!(parked.reason, ParkReason::UnknownDefinition, "{parked:?}");
                "parked".to_owned()
            }
            Fact::Resumed { by } => format!("resumed by {}", by.actor),
            other => panic!("{other:?}"),
        };
        let of = stops.entry(event.stream.to_string()).or_default();
        of.push((event.at, said));
    }
    stops
}

async fn start(sagas: &Sagas<Order, Postgres>, keys: impl Iterator<Item = u32>) {
    for key in keys {
        sagas.start(key, wanted(key)).await.unwrap();
    }
}
/// Waits until they have ended, resumed where they were parked, and looks what was done.
async fn all_end(place: &Place, build: Build, keys: impl Iterator<Item = u32>) {
    let sagas = place.starter(build);
    for key in keys {
        let saga = sagas.get(key).await.unwrap();
        let ended = async {
            while let Outcome::Parked { .. } = saga.outcome().await.unwrap() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(PATIENCE, ended).await.is_err() {
            panic!("{build:?}, {key}: {:?}", saga.why().await.unwrap());
        }
        let (did, notes) = place.did(key).await;
        // A lease that a busy machine has lost lets a step without a barrier run again.
        assert_eq!((did, notes.min(1)), expected(key, build), "{build:?}, {key}");
    }
}

fn evens(keys: &Range<u32>) -> impl Iterator<Item = u32> + use<> {
    keys.clone().filter(|key| key % 2 == 0)
}
fn odds(keys: &Range<u32>) -> impl Iterator<Item = u32> + use<> {
    keys.clone().filter(|key| key % 2 == 1)
}

async fn roll(new: Build) {
    let Some(place) = Place::make(LEASE, GRACE).await else {
        return;
    };
    let count = std::env::var(SAGAS).map_or(SAGAS_FEW, |count| count.parse().unwrap());
    eprintln!("{SAGAS}={count}");
    let (mut old_runs, new_runs) = (place.start(Build::Old), place.start(new));
    let (olds, news) = (place.starter(Build::Old), place.starter(new));

    // Side by side, and for longer than the grace, because nobody answers yet.
    let all = 0..count;
    tokio::join!(start(&olds, evens(&all)), start(&news, odds(&all)));
    sleep(GRACE + 2 * LEASE).await;
    assert_eq!(stops(&place.store).await, BTreeMap::new(), "none is parked");
    let served = place.serve();
    all_end(&place, Build::Old, evens(&all)).await;
    all_end(&place, new, odds(&all)).await;
    assert_eq!(stops(&place.store).await, BTreeMap::new(), "none was parked");
    served.end().await;

    // The new one is stopped: what only it knows is parked after the grace, and nothing else.
    let more = count..count + count / 2;
    tokio::join!(start(&olds, evens(&more)), start(&news, odds(&more)));
    let told = place.store.now();
    assert!(new_runs.end().await.success());
    let parked = async {
        loop {
            let stops = stops(&place.store).await;
            if stops.len() == odds(&more).count() {
                return stops;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let parked = timeout(PATIENCE, parked).await.expect("each of its sagas is parked");
    for key in odds(&more) {
        let stops = &parked[&format!("saga-order/{key}")];
        let [(at, said)] = &stops[..] else {
            panic!("{key}: {stops:?}")
        };
        assert!(said == "parked" && *at >= told + GRACE, "{key}: {stops:?}, told {told}");
    }
    // Answers come that nobody waits for now.
    let served = place.serve();
    all_end(&place, Build::Old, evens(&more)).await;
    assert_eq!(
        stops(&place.store).await,
        parked,
        "they are parked once, and the others never"
    );

    // Started again, they go on by themselves.
    let new_runs = place.start(new);
    all_end(&place, new, odds(&more)).await;
    for (stream, stops) in stops(&place.store).await {
        let said: Vec<_> = stops.iter().map(|(_, said)| &**said).collect();
        assert_eq!(said, ["parked", "resumed by sagamill"], "{stream}");
    }
    assert!(old_runs.runs());
    assert!(old_runs.end().await.success() && new_runs.end().await.success());
    served.end().await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_versions_side_by_side_and_one_of_them_away_for_a_while() {
    roll(Build::New).await;
}

/// Somebody has changed a definition and not counted up its version: replies reach both builds at the same topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_shapes_of_one_version_side_by_side_and_one_of_them_away_for_a_while() {
    roll(Build::Uncounted).await;
}

//! A failover to a standby that lags, under a coordinator: it stops, and decides nothing from what it remembers of a history
//! that is gone; rewound, it goes on with what there is.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "tests")]
mod shop;

use std::{collections::BTreeSet, ops::Range, time::Duration};

use sagamill_bus::Bus;
use sagamill_eventstore::{Append, Error as LogError, EventStore, Expected, Memory, NewEvent};
use sagamill_saga::prelude::*;
use sagamill_saga::{Error, Sagas};
use sagamill_testkit::{Proxy, postgres::own};
use shop::{Order, Running, World, by_bus, order, participants, secs};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);

/// They end before the standby is left behind.
const ENDED: Range<u32> = 0..4;
/// Begun before, and ended where the standby does not learn of it.
const CUT: Range<u32> = 4..8;
/// Begun and ended where it does not.
const LOST: Range<u32> = 8..12;
/// Begun there, and asked of participants who answer when all is over.
const LATE: Range<u32> = 12..14;

/// A process with a coordinator, and what is around it.
struct Site {
    theirs: Memory,
    world: World,
    bus: Bus,
}

impl Site {
    fn coordinate(&self, store: &EventStore) -> (Sagas<Order>, Running) {
        let coordinator = Coordinator::new(store).bus(self.bus.clone()).lease(secs(2));
        let sagas = coordinator.register(by_bus()).unwrap();
        (sagas, Running::coordinator(&coordinator))
    }
    fn serve(&self) -> Running {
        Running::participant(participants(&self.theirs.open(), &self.world), &self.bus)
    }
}

async fn start(sagas: &Sagas<Order>, keys: Range<u32>) {
    for key in keys {
        sagas.start(key, order("tea", 450)).await.unwrap();
    }
}
async fn all_complete(sagas: &Sagas<Order>, keys: Range<u32>) {
    for key in keys {
        let saga = sagas.get(key).await.unwrap();
        let outcome = timeout(PATIENCE, saga.outcome()).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("{key} does not end")).unwrap();
        assert!(matches!(outcome, Outcome::Completed(_)), "{key}: {outcome:?}");
    }
}
async fn ids(store: &EventStore) -> Vec<Uuid> {
    let (mut read, mut ids) = (store.read_all(), Vec::new());
    while let Some(event) = read.next().await {
        ids.push(event.unwrap().id);
    }
    ids
}
/// Appends by others.
async fn grow(store: &EventStore, events: usize) {
    for n in 0..events {
        let append = Append {
            stream: format!("foreign-{n}").into(),
            expected: Expected::Any,
            events: vec![NewEvent::new("noted", "x")],
        };
        store.commit(append).await.unwrap();
    }
}
/// It ends by itself, because its log went another way.
async fn diverges(running: Running) {
    let ended = timeout(PATIENCE, running.task).await.expect("it stops").unwrap();
    let error = ended.expect_err("it cannot end well");
    assert!(matches!(error, Error::Store(LogError::LogDiverged { .. })), "{error:?}");
}
/// Waits until sagas have asked their first question, which is all that they can do while nobody answers.
async fn have_asked(store: &EventStore, keys: Range<u32>) {
    for key in keys {
        let asked = async {
            let stream = format!("saga-by-bus/{key}");
            while store
                .read(stream.as_str())
                .types(["saga.step-requested"])
                .next()
                .await
                .is_none()
            {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, asked).await.expect("it asks");
    }
}

async fn play(grown: usize) {
    let Some(primary) = own().await else { return };
    let database = primary.database("log").await.unwrap();
    let network = Proxy::start(database.url()).await.unwrap();
    let standby = primary.standby().await.unwrap();
    let site = Site {
        theirs: Memory::new(),
        world: World::default(),
        bus: Memory::new().open().bus(),
    };
    let store = EventStore::connect(&network.url()).await.unwrap();
    let (sagas, coordinating) = site.coordinate(&store);
    let served = site.serve();
    start(&sagas, ENDED).await;
    all_complete(&sagas, ENDED).await;
    served.end().await;
    start(&sagas, CUT).await;
    have_asked(&store, CUT).await;

    standby.caught_up().await.unwrap();
    standby.detach().await.unwrap();
    let kept = ids(&store).await.len();
    let served = site.serve();
    start(&sagas, LOST).await;
    all_complete(&sagas, CUT).await;
    all_complete(&sagas, LOST).await;
    served.end().await;
    start(&sagas, LATE).await;
    have_asked(&store, LATE).await;
    let gone = ids(&store).await;

    network.cut();
    primary.kill().await.unwrap();
    let promoted = standby.promote().await.unwrap();
    network.lead_to(promoted.url()).unwrap();
    let (server, _) = promoted.url().rsplit_once('/').unwrap();
    let late = EventStore::connect(&format!("{server}/{}", database.name()))
        .await
        .unwrap();
    assert!(ids(&late).await.len() <= kept, "what was acknowledged last is gone");
    grow(&late, grown).await;
    let history = ids(&late).await;
    if grown > 0 {
        assert!(history.len() > gone.len(), "it has grown beyond what was lost");
    }

    network.heal();
    let served = site.serve();
    diverges(coordinating).await;
    let (_, again) = site.coordinate(&store);
    diverges(again).await;
    assert_eq!(ids(&late).await, history, "nothing was decided from what is gone");

    let names: BTreeSet<String> = late
        .checkpoints()
        .await
        .unwrap()
        .into_iter()
        .map(|of| of.name)
        .collect();
    for name in names {
        late.rewind(&name).await.unwrap();
    }
    let (sagas, coordinating) = site.coordinate(&store);
    all_complete(&sagas, ENDED).await;
    all_complete(&sagas, CUT).await;
    for key in ENDED.chain(CUT) {
        let did = site.world.of(&key.to_string());
        assert_eq!(
            did,
            ["reserve", "charge", "ship"],
            "{key}: once, though it was asked twice"
        );
    }
    for key in LOST.chain(LATE) {
        let looked = sagas.get(key).await;
        assert!(matches!(looked, Err(Error::NotFound { .. })), "{key}: {looked:?}");
    }
    start(&sagas, LOST).await;
    all_complete(&sagas, LOST).await;
    coordinating.end().await;
    served.end().await;
    network.cut();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_stops_where_its_log_has_lost_its_tail_and_goes_on_after_a_rewind() {
    play(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_stops_where_its_log_has_grown_beyond_its_lost_tail() {
    play(400).await;
}

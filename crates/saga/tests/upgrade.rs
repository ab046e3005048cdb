//! Old and new binaries on one log: what one does not know is left to the other, and what nobody knows is parked until
//! somebody does.
#![allow(clippy::unwrap_used, reason = "tests")]
mod shop;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use sagamill_bus::Bus;
use sagamill_eventstore::{Append, EventStore, Expected, Memory, NewEvent, Recorded};
use sagamill_saga::prelude::*;
use sagamill_saga::{
    Error, Sagas,
    core::{DecodeError, Fact, LoadError, ParkReason, SagaEvent, header},
};
use shop::{Charge, Order, Reserve, Running, Ship, World, order, participants, secs};

/// The grace of these tests, in their log's time.
const GRACE: Duration = Duration::from_mins(10);
const LEASE: Duration = Duration::from_secs(10);

async fn note(State(world): State<World>, saga: SagaContext, _: Order) -> Answer<()> {
    world.did(&saga.key, "note");
    Done(())
}

fn saga(version: u32) -> sagamill_saga::Saga<Order> {
    Saga::define("order").version(version).step(
        "reserve",
        call(|order: &Order| Reserve { sku: order.sku.clone() })
            .on_reply(|order, id| order.reservation = id)
            .undo()
            .timeout(secs(5)),
    )
}

/// As the old binary has it.
fn old(version: u32) -> Definition<Order> {
    let charge = call(|order: &Order| Charge { cents: order.cents }).timeout(secs(5));
    let ship = call(|order: &Order| Ship {
        reservation: order.reservation,
    });
    saga(version).pivot("charge", charge).step("ship", ship).build()
}

/// As the new binary has it: with a local step more.
fn new(version: u32) -> Definition<Order> {
    let charge = call(|order: &Order| Charge { cents: order.cents }).timeout(secs(5));
    let ship = call(|order: &Order| Ship {
        reservation: order.reservation,
    });
    let saga = saga(version).step("note", local(note).no_undo());
    saga.pivot("charge", charge).step("ship", ship).build()
}

/// A binary with these definitions, as a process.
fn binary<D>(
    store: &EventStore<D>,
    world: &World,
    bus: &Bus,
    definitions: Vec<Definition<Order>>,
) -> (Vec<Sagas<Order, D>>, Running)
where
    D: Send + Sync + 'static,
{
    let coordinator = Coordinator::new(store).bus(bus.clone()).with_state(world.clone());
    let coordinator = coordinator.lease(LEASE).park_unknown_after(GRACE);
    let sagas = definitions
        .into_iter()
        .map(|of| coordinator.register(of).unwrap())
        .collect();
    (sagas, Running::coordinator(&coordinator))
}

/// Of each saga of the log, when and why it was parked, and when and by whom it was resumed.
async fn stops<D>(store: &EventStore<D>) -> BTreeMap<String, Vec<(Timestamp, String)>> {
    let mut read = store.read_all().types(["saga.parked", "saga.resumed"]);
    let mut stops: BTreeMap<String, Vec<(Timestamp, String)>> = BTreeMap::new();
    while let Some(event) = read.next().await {
        let event: Recorded = event.unwrap();
        let said = match SagaEvent::decode(&event).unwrap().event.fact {
            Fact::Parked(parked) => {
                assert_eq!(parked.reason, ParkReason::UnknownDefinition, "{parked:?}");
                format!("parked: {}", parked.text)
            }
            Fact::Resumed { by } => format!("resumed by {}", by.actor),
            other => panic!("{other:?}"),
        };
        stops
            .entry(event.stream.to_string())
            .or_default()
            .push((event.at, said));
    }
    stops
}

fn price(n: u32) -> u32 {
    if n.is_multiple_of(7) { 5_000 } else { 450 }
}
fn expected(n: u32, is_new: bool) -> Vec<&'static str> {
    match (n.is_multiple_of(7), is_new) {
        (true, false) => vec!["reserve", "release"],
        (true, true) => vec!["reserve", "note", "release"],
        (false, false) => vec!["reserve", "charge", "ship"],
        (false, true) => vec!["reserve", "note", "charge", "ship"],
    }
}

/// A thousand sagas, half of them by each of two definitions of which two processes know one each.
async fn side_by_side(of_old: Definition<Order>, of_new: Definition<Order>) {
    let (log, theirs, world, bus) = (Memory::new(), Memory::new(), World::default(), Bus::memory());
    let (old, old_runs) = binary(&log.open(), &world, &bus, vec![of_old]);
    let (new, new_runs) = binary(&log.open(), &world, &bus, vec![of_new]);
    let served = Running::participant(participants(&theirs.open(), &world), &bus);
    let mut started = Vec::new();
    for n in 0..1_000 {
        let sagas = if n % 2 == 0 { &old[0] } else { &new[0] };
        started.push(sagas.start(n, order("tea", price(n))).await.unwrap());
    }
    for (n, saga) in (0..).zip(&started) {
        let outcome = saga.outcome().await.unwrap();
        assert!(!matches!(outcome, Outcome::Parked { .. }), "{n}: {outcome:?}");
        assert_eq!(world.of(&n.to_string()), expected(n, n % 2 == 1), "{n}");
    }
    tokio::time::sleep(3 * GRACE).await;
    assert_eq!(stops(&log.open()).await, BTreeMap::new());
    old_runs.end().await;
    new_runs.end().await;
    served.end().await;
}

#[tokio::test(start_paused = true)]
async fn two_versions_side_by_side_park_nothing() {
    side_by_side(old(1), new(2)).await;
}

/// Somebody has changed a definition and not counted up its version: replies reach both processes at the same topic.
#[tokio::test(start_paused = true)]
async fn two_shapes_of_one_version_side_by_side_park_nothing() {
    side_by_side(old(1), new(1)).await;
}

/// Sagas of both binaries that wait for participants who are not there yet.
async fn waiting(sagas: &Sagas<Order>, numbers: std::ops::Range<u32>) {
    for n in numbers {
        sagas.start(n, order("tea", price(n))).await.unwrap();
    }
    tokio::time::sleep(secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn sagas_of_a_binary_that_is_gone_are_parked_after_the_grace_and_go_on_when_it_is_back() {
    for version in [2, 1] {
        let (log, theirs, world, bus) = (Memory::new(), Memory::new(), World::default(), Bus::memory());
        let store = log.open();
        let (olds, old_runs) = binary(&log.open(), &world, &bus, vec![old(1)]);
        let (news, new_runs) = binary(&log.open(), &world, &bus, vec![new(version)]);
        waiting(&olds[0], 0..20).await;
        waiting(&news[0], 20..60).await;
        new_runs.end().await;
        let gone = store.now();
        tokio::time::sleep(GRACE - LEASE).await;
        assert_eq!(stops(&store).await, BTreeMap::new(), "the grace is not over");
        tokio::time::sleep(2 * LEASE).await;
        let parked = stops(&store).await;
        assert_eq!(parked.len(), 40, "each of its sagas, and no other");
        for (stream, stops) in &parked {
            let [(at, why)] = &stops[..] else {
                panic!("{stream}: {stops:?}")
            };
            assert!(*at >= gone + GRACE, "{stream}: {at} after {gone}");
            assert!(why.contains(&format!("`order` version {version}")), "{why}");
        }
        // Its answers are waited for by nobody, and lost by nobody.
        let served = Running::participant(participants(&theirs.open(), &world), &bus);
        tokio::time::sleep(2 * GRACE).await;
        assert_eq!(stops(&store).await, parked, "they are parked once");
        for n in 0..20 {
            assert_eq!(
                world.of(&n.to_string()),
                expected(n, false),
                "{n}: the old one's go on all the while"
            );
        }

        let (news, new_runs) = binary(&log.open(), &world, &bus, vec![new(version)]);
        for n in 20..60 {
            let saga = news[0].get(n).await.unwrap();
            while let Outcome::Parked { .. } = saga.outcome().await.unwrap() {
                tokio::time::sleep(secs(1)).await;
            }
            assert_eq!(world.of(&n.to_string()), expected(n, true), "{n}");
        }
        for (stream, stops) in stops(&store).await {
            let said: Vec<_> = stops.iter().map(|(_, said)| &**said).collect();
            assert!(matches!(said[..], [_, "resumed by sagamill"]), "{stream}: {said:?}");
        }
        old_runs.end().await;
        new_runs.end().await;
        served.end().await;
    }
}

/// The time that a definition has been missed for is not forgotten when the process that counts it dies.
#[tokio::test(start_paused = true)]
async fn the_next_janitor_counts_on() {
    let (log, world, bus) = (Memory::new(), World::default(), Bus::memory());
    let store = log.open();
    let (_, first) = binary(&log.open(), &world, &bus, vec![old(1)]);
    let (news, new_runs) = binary(&log.open(), &world, &bus, vec![new(2)]);
    waiting(&news[0], 0..10).await;
    new_runs.kill().await;
    let gone = store.now();
    tokio::time::sleep(GRACE * 2 / 3).await;
    first.kill().await;
    let (_, second) = binary(&log.open(), &world, &bus, vec![old(1)]);
    tokio::time::sleep(GRACE / 3 + 5 * LEASE).await;
    let parked = stops(&store).await;
    assert_eq!(parked.len(), 10);
    for (at, _) in parked.values().flatten() {
        assert!(
            *at >= gone + GRACE && *at <= gone + GRACE + 5 * LEASE,
            "{at} after {gone}"
        );
    }
    second.end().await;
}

/// A binary that starts sagas and runs none of them: its definition is known to nobody who could go on with them.
#[tokio::test(start_paused = true)]
async fn what_is_started_by_a_process_that_does_not_run_is_parked_too_and_so_is_what_comes_later() {
    let (log, theirs, world, bus) = (Memory::new(), Memory::new(), World::default(), Bus::memory());
    let store = log.open();
    let (_, runs) = binary(&log.open(), &world, &bus, vec![old(1)]);
    let starter = Coordinator::new(&log.open()).register(new(2)).unwrap();
    waiting(&starter, 0..3).await;
    tokio::time::sleep(GRACE + 2 * LEASE).await;
    assert_eq!(stops(&store).await.len(), 3);
    waiting(&starter, 3..5).await;
    tokio::time::sleep(GRACE + 2 * LEASE).await;
    assert_eq!(stops(&store).await.len(), 5);
    // Those that end are none of the janitor's business, those that come and go again are.
    let served = Running::participant(participants(&theirs.open(), &world), &bus);
    let (news, new_runs) = binary(&log.open(), &world, &bus, vec![new(2)]);
    for n in 0..5 {
        let saga = news[0].get(n).await.unwrap();
        while let Outcome::Parked { .. } = saga.outcome().await.unwrap() {
            tokio::time::sleep(secs(1)).await;
        }
    }
    served.end().await;
    waiting(&news[0], 5..6).await;
    new_runs.kill().await;
    tokio::time::sleep(GRACE + 3 * LEASE).await;
    let stops = stops(&store).await;
    assert_eq!(stops.len(), 6);
    assert_eq!(stops["saga-order/5"].len(), 1);
    assert!(
        stops
            .iter()
            .all(|(stream, stops)| stream == "saga-order/5" || stops.len() == 2),
        "{stops:?}"
    );
    runs.end().await;
}

/// A restart within the grace parks nothing, whatever is missed for a while.
#[tokio::test(start_paused = true)]
async fn a_restart_within_the_grace_parks_nothing() {
    let (log, theirs, world, bus) = (Memory::new(), Memory::new(), World::default(), Bus::memory());
    let store = log.open();
    let (_, old_runs) = binary(&log.open(), &world, &bus, vec![old(1)]);
    for _ in 0..3 {
        let (news, new_runs) = binary(&log.open(), &world, &bus, vec![new(2)]);
        news[0].start("a", order("tea", 1)).await.unwrap();
        tokio::time::sleep(secs(30)).await;
        new_runs.kill().await;
        tokio::time::sleep(GRACE / 2).await;
    }
    let (news, new_runs) = binary(&log.open(), &world, &bus, vec![new(2)]);
    let served = Running::participant(participants(&theirs.open(), &world), &bus);
    let outcome = news[0].get("a").await.unwrap().outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::Completed(_)), "{outcome:?}");
    assert_eq!(stops(&store).await, BTreeMap::new());
    old_runs.end().await;
    new_runs.end().await;
    served.end().await;
}

/// The same rules over a file, by the system's clock.
#[tokio::test]
async fn on_sqlite_sagas_are_parked_and_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("sagas.db").display());
    let (bus, world) = (Bus::memory(), World::default());
    let coordinator = async |definition| {
        let coordinator = Coordinator::connect(&url)
            .await
            .unwrap()
            .bus(bus.clone())
            .with_state(world.clone());
        let coordinator = coordinator
            .lease(Duration::from_millis(300))
            .park_unknown_after(secs(1));
        let sagas = coordinator.register(definition).unwrap();
        (sagas, Running::coordinator(&coordinator))
    };
    let (_, old_runs) = coordinator(old(1)).await;
    let (news, new_runs) = coordinator(new(2)).await;
    let saga = news.start("a", order("tea", 1)).await.unwrap();
    new_runs.kill().await;
    let outcome = saga.outcome().await.unwrap();
    assert!(
        matches!(&outcome, Outcome::Parked { reason, .. } if reason.contains("version 2")),
        "{outcome:?}"
    );
    let (news, new_runs) = coordinator(new(2)).await;
    let theirs = Memory::new();
    let served = Running::participant(participants(&theirs.open(), &world), &bus);
    let saga = news.get("a").await.unwrap();
    while let Outcome::Parked { .. } = saga.outcome().await.unwrap() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.of("a"), ["reserve", "note", "charge", "ship"]);
    old_runs.end().await;
    new_runs.end().await;
    served.end().await;
}

/// Appends what a library of a later revision writes to a saga's stream.
async fn append_newer(store: &EventStore, stream: &str, name: &str, is_aux: bool) {
    let mut read = store.read(stream);
    let mut event = NewEvent::new(name, &b"{}"[..]);
    while let Some(before) = read.next().await {
        event.headers = before.unwrap().headers;
    }
    event.headers.set(header::CORE, "2");
    if is_aux {
        event.headers.set(header::AUX, "1");
    }
    let append = Append {
        stream: stream.into(),
        expected: Expected::Exists,
        events: vec![event],
    };
    store.commit(append).await.unwrap();
}

/// What a newer library wrote is not folded past, and what it has marked for that is.
#[tokio::test(start_paused = true)]
async fn a_saga_that_a_newer_library_has_touched_is_left_to_it() {
    let (log, theirs, world, bus) = (Memory::new(), Memory::new(), World::default(), Bus::memory());
    let store = log.open();
    let (olds, runs) = binary(&store, &world, &bus, vec![old(1)]);
    waiting(&olds[0], 1..4).await;
    append_newer(&store, "saga-order/1", "saga.step-hopped", false).await;
    append_newer(&store, "saga-order/2", "saga.commented", true).await;
    let served = Running::participant(participants(&theirs.open(), &world), &bus);
    for n in 2..4 {
        let outcome = olds[0].get(n).await.unwrap().outcome().await.unwrap();
        assert!(matches!(outcome, Outcome::Completed(_)), "{n}: {outcome:?}");
        assert_eq!(world.of(&n.to_string()), expected(n, false));
    }
    tokio::time::sleep(3 * GRACE).await;
    let mut read = store.read("saga-order/1");
    let mut names = Vec::new();
    while let Some(event) = read.next().await {
        names.push(event.unwrap().name);
    }
    assert_eq!(names, ["saga.started", "saga.step-requested", "saga.step-hopped"]);
    let refused = olds[0].get(1).await;
    let newer = |error: &Error| {
        let Error::Unloadable { source, .. } = error else {
            return false;
        };
        matches!(source, LoadError::Decode(DecodeError::Newer { rev: 2, .. }))
    };
    assert!(refused.as_ref().is_err_and(newer), "{refused:?}");
    runs.end().await;
    served.end().await;
}

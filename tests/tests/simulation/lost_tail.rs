//! A log that lost its tail, by a failover to a lagging replica or a restored backup: noticed by whoever had read further,
//! and gone on from only when an operator says so.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use sagamill::{
    bus::memory::Memory as Broker,
    eventstore::{Append, EventStore, Expected, Memory, NewEvent, Position},
};

use crate::{
    history::{self, End},
    node::{Kind, Node, Site},
    trace::Trace,
    world::{Binary, Plan, World},
};

/// Whether the tail that a seed loses was one that somebody had read.
pub(crate) fn run(seed: u64) -> bool {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async { play(seed).await })
}

async fn play(seed: u64) -> bool {
    let mut dice = SmallRng::seed_from_u64(seed);
    let epoch = Timestamp::from_second(1_800_000_000).expect("a time");
    let trace = Trace::new();
    let world = World::new(seed, &trace);
    world.calm();
    let logs = std::array::from_fn(|n| Memory::seeded(epoch, seed ^ ((n as u64 + 1) << 32)));
    let site = Site {
        trace,
        world,
        broker: Broker::new(),
        lease: Duration::from_secs(10),
        logs,
    };
    let participants: Vec<Node> = [Kind::Stock, Kind::Money, Kind::Parcel]
        .into_iter()
        .map(|kind| Node::start(kind, Binary::Whole, &site))
        .collect();
    let store = site.logs[0].open();

    let coordinator = Node::start(Kind::Coordinator, Binary::Whole, &site);
    for number in 0..dice.random_range(1..4) {
        order(&coordinator, number).await;
    }
    tokio::time::sleep(Duration::from_millis(dice.random_range(0..5_000))).await;
    drop(coordinator);

    let head = store.head().await.expect("the log answers").position;
    let left = Position(dice.random_range(0..=head.0));
    site.logs[0].lose_tail(left);
    let read = store.checkpoints().await.expect("the log answers");
    let passed = read.iter().any(|checkpoint| checkpoint.at.position > left);
    // Others write meanwhile: the numbers come back, the events do not.
    grow(&store, head.0 - left.0 + 5).await;

    let mut coordinator = Node::start(Kind::Coordinator, Binary::Whole, &site);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let said = coordinator.broken();
    let noticed = said.as_ref().is_some_and(|said| said.contains("LogDiverged"));
    assert_eq!(
        noticed, passed,
        "SAGAMILL_SEED={seed}: lost all after {left} of {head}, read up to {read:?}: {said:?}"
    );
    if passed {
        go_on(&site, &store).await;
    }
    drop(participants);
    passed
}

/// The operator's verb, and then a saga that ends as if nothing had been.
async fn go_on(site: &Site, store: &EventStore) {
    let subscriptions: BTreeSet<String> = store
        .checkpoints()
        .await
        .expect("the log answers")
        .into_iter()
        .map(|checkpoint| checkpoint.name)
        .collect();
    for subscription in &subscriptions {
        store.rewind(subscription).await.expect("the log answers");
    }
    let mut coordinator = Node::start(Kind::Coordinator, Binary::Whole, site);
    order(&coordinator, 99).await;
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if history::read(store, "order-99").await.end() == End::Completed {
            return;
        }
    }
    panic!("after the rewind nothing goes on: {:?}", coordinator.broken());
}

async fn order(coordinator: &Node, number: u32) {
    let sagas = coordinator.sagas[&1].clone();
    let plan = Plan {
        version: 1,
        number,
        rejected_at: None,
        replies: Vec::new(),
    };
    sagas
        .start(format!("order-{number}"), plan)
        .await
        .expect("the saga starts");
}

async fn grow(store: &EventStore, events: i64) {
    for n in 0..events {
        let append = Append {
            stream: format!("foreign-{n}").into(),
            expected: Expected::Any,
            events: vec![NewEvent::new("noted", "1")],
        };
        store.commit(append).await.expect("the log takes it");
    }
}

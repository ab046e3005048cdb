//! The coordinator in adversity: several of them, cut short, with caches behind the log, and time passing.
#![allow(clippy::unwrap_used, reason = "tests")]
mod shop;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use sagamill_bus::{Bus, Subscribe};
use sagamill_eventstore::{Append, Expected, Fault, Memory, NewEvent, Position, Recorded};
use sagamill_saga::prelude::*;
use sagamill_saga::{Error, Sagas};
use shop::{Order, Reserve, Running, World, by_bus, expected, locally, order, participants, price, secs};

/// All event names of a saga.
async fn history(log: &Memory, stream: &str) -> Vec<String> {
    let mut read = log.open().read(stream);
    let mut names = Vec::new();
    while let Some(event) = read.next().await {
        let event: Recorded = event.unwrap();
        names.push(event.name);
    }
    names
}

/// Hands on what a group of one bus gets to one of several others, chosen by chance, the same in each run.
fn hand_on(from: &Bus, topic: &'static str, to: Vec<Bus>) -> tokio::task::JoinHandle<()> {
    let (from, mut dice) = (from.clone(), 1_u32);
    tokio::spawn(async move {
        let mut deliveries = from.subscribe(Subscribe::new(topic, "switch")).await.unwrap();
        while let Some(delivery) = deliveries.next().await {
            let delivery = delivery.unwrap();
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let bus = &to[(dice >> 16) as usize % to.len()];
            while bus.publish_to(topic, [delivery.message.clone()]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            delivery.ack().await.unwrap();
        }
    })
}

/// Each coordinator remembers sagas that the others take further. Without the reload before a decision to do nothing
/// (`needs_reload`), replies that reach one that is behind are lost, and their sagas wait for the steps' timeouts: far longer
/// than this test allows.
#[tokio::test(start_paused = true)]
async fn replies_may_reach_a_coordinator_that_is_behind() {
    let (log, theirs, world, middle) = (Memory::new(), Memory::new(), World::default(), Bus::memory());
    let served = Running::participant(participants(&theirs.open(), &world), &middle);
    let buses: Vec<_> = (0..3).map(|_| Bus::memory()).collect();
    let mut switches = vec![hand_on(&middle, "by-bus.v1.replies", buses.clone())];
    for bus in &buses {
        for topic in ["stock.commands", "payment.commands", "shipping.commands"] {
            switches.push(hand_on(bus, topic, vec![middle.clone()]));
        }
    }
    let coordinators: Vec<_> = buses
        .iter()
        .map(|bus| Coordinator::new(&log.open()).bus(bus.clone()))
        .collect();
    let sagas: Vec<Sagas<Order>> = coordinators.iter().map(|one| one.register(by_bus()).unwrap()).collect();
    let running: Vec<_> = coordinators.iter().map(Running::coordinator).collect();
    let began = tokio::time::Instant::now();
    let mut started = Vec::new();
    for n in 0..60 {
        started.push(sagas[n as usize % 3].start(n, order("tea", price(n))).await.unwrap());
    }
    for saga in &started {
        let outcome = saga.outcome().await.unwrap();
        assert!(!matches!(outcome, Outcome::Parked { .. }), "{outcome:?}");
    }
    assert!(began.elapsed() < secs(5), "{:?}: replies were lost", began.elapsed());
    for n in 0..60 {
        assert_eq!(world.of(&n.to_string()), expected(n), "{n}");
    }
    for one in running {
        one.end().await;
    }
    switches.iter().for_each(tokio::task::JoinHandle::abort);
    served.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_coordinator_is_followed_by_one_that_goes_on() {
    for cut in 0..60 {
        let (log, theirs, world, bus) = (Memory::new(), Memory::new(), World::default(), Bus::memory());
        let served = Running::participant(participants(&theirs.open(), &world), &bus);
        let first = Coordinator::new(&log.open()).bus(bus.clone());
        let sagas = first.register(by_bus()).unwrap();
        let running = Running::coordinator(&first);
        for n in 0..3 {
            sagas.start(n, order("tea", price(n))).await.unwrap();
        }
        for _ in 0..cut * 3 {
            tokio::task::yield_now().await;
        }
        running.kill().await;
        drop((first, sagas));
        let second = Coordinator::new(&log.open()).bus(bus.clone());
        let sagas = second.register(by_bus()).unwrap();
        let running = Running::coordinator(&second);
        for n in 0..3 {
            let outcome = sagas.get(n).await.unwrap().outcome().await.unwrap();
            assert!(!matches!(outcome, Outcome::Parked { .. }), "{cut}: {outcome:?}");
            assert_eq!(world.of(&n.to_string()), expected(n), "{cut}: {n}");
        }
        running.end().await;
        served.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_coordinator_s_local_steps_are_taken_over() {
    for cut in 0..40 {
        let (log, world) = (Memory::new(), World::default());
        let first = Coordinator::new(&log.open()).with_state(world.clone());
        let sagas = first.register(locally()).unwrap();
        let running = Running::coordinator(&first);
        sagas.start("a", order("tea", price(cut))).await.unwrap();
        for _ in 0..cut {
            tokio::task::yield_now().await;
        }
        running.kill().await;
        let second = Coordinator::new(&log.open()).with_state(world.clone());
        let sagas = second.register(locally()).unwrap();
        let running = Running::coordinator(&second);
        let outcome = sagas.get("a").await.unwrap().outcome().await.unwrap();
        assert_eq!(
            matches!(outcome, Outcome::Completed(_)),
            !cut.is_multiple_of(3),
            "{cut}: {outcome:?}"
        );
        // An idempotent step may be run again after a cut; what it is for is the same.
        let mut did = world.of("a");
        did.dedup();
        assert_eq!(did, expected(cut), "{cut}");
        running.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_process_s_end_is_heard_of() {
    let (log, world) = (Memory::new(), World::default());
    let working = Coordinator::new(&log.open()).with_state(world.clone());
    working.register(locally()).unwrap();
    let asking = Coordinator::new(&log.open()).register(locally()).unwrap();
    let saga = asking.start("a", order("tea", 450)).await.unwrap();
    let waiting = tokio::spawn({
        let saga = saga.clone();
        async move { saga.outcome().await.unwrap() }
    });
    tokio::time::sleep(secs(1)).await;
    assert!(!waiting.is_finished());
    let running = Running::coordinator(&working);
    assert!(matches!(waiting.await.unwrap(), Outcome::Completed(_)));
    assert!(matches!(saga.outcome().await.unwrap(), Outcome::Completed(_)));
    running.end().await;
}

/// Three flushes of ten fail, each in its way, in an order that is the same in each run.
fn flaky_log(log: &Memory, seed: u32) {
    let flushes = AtomicU32::new(seed);
    log.on_flush(
        move |_| match flushes.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9) >> 16 & 0xFF {
            0..25 => Fault::Refused,
            25..50 => Fault::LostBefore,
            50..75 => Fault::LostAfter,
            _ => Fault::None,
        },
    );
}

#[tokio::test(start_paused = true)]
async fn a_log_that_fails_now_and_then_loses_nothing() {
    let (log, theirs, world, bus) = (Memory::new(), Memory::new(), World::default(), Bus::memory());
    flaky_log(&log, 1);
    flaky_log(&theirs, 1_000);
    let served = Running::participant(participants(&theirs.open(), &world), &bus);
    let coordinator = Coordinator::new(&log.open()).bus(bus.clone());
    let sagas = coordinator.register(by_bus()).unwrap();
    let running = Running::coordinator(&coordinator);
    for n in 0..20 {
        let saga = loop {
            match sagas.start(n, order("tea", price(n))).await {
                Ok(saga) => break saga,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        };
        let outcome = saga.outcome().await.unwrap();
        assert!(!matches!(outcome, Outcome::Parked { .. }), "{outcome:?}");
        let mut did = world.of(&n.to_string());
        // The participants' effects are outside their log here: one whose commit failed is run again.
        did.dedup();
        assert_eq!(did, expected(n));
    }
    running.end().await;
    served.end().await;
}

async fn reserve_once_it_is_up(
    State(up): State<Arc<AtomicU32>>,
    State(world): State<World>,
    saga: SagaContext,
    _: Order,
) -> Result<Answer<()>, std::io::Error> {
    world.did(&saga.key, "tried");
    if up.fetch_sub(1, Ordering::Relaxed) > 1 {
        return Err(std::io::Error::other("not yet"));
    }
    Ok(Done(()))
}

fn patient() -> Definition<Order> {
    Saga::define("patient")
        .step("reserve", local(reserve_once_it_is_up).no_undo())
        .build()
}

#[tokio::test(start_paused = true)]
async fn a_failing_local_step_is_tried_again_with_growing_pauses() {
    let (log, world) = (Memory::new(), World::default());
    let coordinator = Coordinator::new(&log.open())
        .with_state(world.clone())
        .with_state(Arc::new(AtomicU32::new(12)));
    let sagas = coordinator.register(patient()).unwrap();
    let running = Running::coordinator(&coordinator);
    let began = tokio::time::Instant::now();
    let saga = sagas.start("a", order("tea", 1)).await.unwrap();
    assert!(matches!(saga.outcome().await.unwrap(), Outcome::Completed(_)));
    assert_eq!(world.of("a").len(), 12);
    assert!(
        began.elapsed() > secs(30) && began.elapsed() < secs(150),
        "{:?}",
        began.elapsed()
    );
    running.end().await;
}

fn slow(timeout: Duration) -> Definition<Order> {
    let reserve = call(|order: &Order| Reserve { sku: order.sku.clone() });
    Saga::define("slow")
        .deadline(Duration::from_hours(2))
        .step("reserve", reserve.timeout(timeout).undo())
        .build()
}

/// Counts the requests of a step so far.
async fn requests(log: &Memory) -> usize {
    history(log, "saga-slow/a")
        .await
        .iter()
        .filter(|name| *name == "saga.step-requested")
        .count()
}

#[tokio::test(start_paused = true)]
async fn timers_near_and_far_fire_also_after_a_restart() {
    for (timeout, restart) in [
        (secs(2), false),
        (secs(2), true),
        (secs(3_600), false),
        (secs(3_600), true),
    ] {
        let (log, bus) = (Memory::new(), Bus::memory());
        let coordinator = Coordinator::new(&log.open()).bus(bus.clone());
        let sagas = coordinator.register(slow(timeout)).unwrap();
        let mut running = Running::coordinator(&coordinator);
        sagas.start("a", order("tea", 1)).await.unwrap();
        let began = tokio::time::Instant::now();
        if restart {
            tokio::time::sleep(timeout / 2).await;
            running.kill().await;
            let coordinator = Coordinator::new(&log.open()).bus(bus.clone());
            coordinator.register(slow(timeout)).unwrap();
            running = Running::coordinator(&coordinator);
        }
        while requests(&log).await < 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(
                began.elapsed() < timeout + secs(30),
                "the timer of {timeout:?} has not fired"
            );
        }
        assert!(began.elapsed() >= timeout, "{:?}", began.elapsed());
        running.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_undoes_what_waits_and_lets_the_checkpoint_pass_meanwhile() {
    let (log, bus) = (Memory::new(), Bus::memory());
    let coordinator = Coordinator::new(&log.open()).bus(bus.clone());
    let sagas = coordinator.register(slow(secs(86_400))).unwrap();
    let running = Running::coordinator(&coordinator);
    let saga = sagas.start("a", order("tea", 1)).await.unwrap();
    tokio::time::sleep(secs(30)).await;
    let head = log.open().head().await.unwrap().position;
    let behind: Vec<_> = log
        .open()
        .checkpoints()
        .await
        .unwrap()
        .into_iter()
        .filter(|c| c.name.starts_with("saga-work/"))
        .collect();
    assert!(
        behind.iter().any(|checkpoint| checkpoint.at.position >= head),
        "{behind:?}"
    );
    tokio::time::sleep(Duration::from_hours(2)).await;
    let state = saga.state().await.unwrap();
    assert!(state.is_unwinding(), "{state:?}");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_saga_is_undone_and_one_that_ended_cannot_be() {
    let (log, theirs, world, bus) = (Memory::new(), Memory::new(), World::default(), Bus::memory());
    let coordinator = Coordinator::new(&log.open()).bus(bus.clone());
    let sagas = coordinator.register(slow(secs(60))).unwrap();
    let running = Running::coordinator(&coordinator);
    let saga = sagas.start("a", order("tea", 1)).await.unwrap();
    saga.cancel("changed his mind").await.unwrap();
    saga.cancel("changed his mind").await.unwrap();
    let served = Running::participant(participants(&theirs.open(), &world), &bus);
    let outcome = saga.outcome().await.unwrap();
    assert!(
        matches!(&outcome, Outcome::Compensated { reason, .. } if reason.contains("changed his mind")),
        "{outcome:?}"
    );
    let did = world.of("a");
    assert!(did.is_empty() || did == ["reserve", "release"], "{did:?}");
    let late = saga.cancel("too late").await;
    assert!(matches!(late, Err(Error::Illegal { .. })), "{late:?}");
    running.end().await;
    served.end().await;
}

async fn never(_: Order) -> Result<Answer<()>, HandlerError> {
    Err(HandlerError::permanent("no such thing"))
}
async fn now_it_works(_: Order) -> Answer<()> {
    Done(())
}

#[tokio::test(start_paused = true)]
async fn what_cannot_succeed_is_parked_and_goes_on_when_it_is_resumed() {
    let log = Memory::new();
    let broken = Saga::define("repaired").step("one", local(never).no_undo()).build();
    let repaired = Saga::define("repaired")
        .step("one", local(now_it_works).no_undo())
        .build();
    let coordinator = Coordinator::new(&log.open());
    let sagas = coordinator.register(broken).unwrap();
    let running = Running::coordinator(&coordinator);
    let saga = sagas.start("a", order("tea", 1)).await.unwrap();
    let outcome = saga.outcome().await.unwrap();
    assert!(
        matches!(&outcome, Outcome::Parked { step, reason, .. } if step == "one" && reason.contains("no such thing"))
    );
    running.end().await;
    let coordinator = Coordinator::new(&log.open());
    let sagas = coordinator.register(repaired).unwrap();
    let running = Running::coordinator(&coordinator);
    let saga = sagas.get("a").await.unwrap();
    assert!(matches!(saga.outcome().await.unwrap(), Outcome::Parked { .. }));
    saga.resume("repaired").await.unwrap();
    assert!(matches!(saga.outcome().await.unwrap(), Outcome::Completed(_)));
    running.end().await;
}

async fn give_seven(_: Order) -> Answer<u64> {
    Done(7)
}
async fn wait(_: Order) -> Answer<()> {
    tokio::time::sleep(secs(1)).await;
    Done(())
}

#[tokio::test(start_paused = true)]
async fn changed_code_parks_its_sagas_by_name_and_the_others_go_on() {
    let (log, world) = (Memory::new(), World::default());
    let before = Saga::define("changed")
        .step(
            "count",
            local(give_seven)
                .on_reply(|order: &mut Order, n| order.reservation = n)
                .no_undo(),
        )
        .step("wait", local(wait).no_undo())
        .build();
    let after = Saga::define("changed")
        .step(
            "count",
            local(give_seven)
                .on_reply(|order: &mut Order, n| order.reservation = n + 1)
                .no_undo(),
        )
        .step("wait", local(wait).no_undo())
        .build();
    let coordinator = Coordinator::new(&log.open());
    let sagas = coordinator.register(before).unwrap();
    let running = Running::coordinator(&coordinator);
    sagas.start("a", order("tea", 1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    running.kill().await;
    let coordinator = Coordinator::new(&log.open()).with_state(world.clone());
    coordinator.register(after).unwrap();
    let others = coordinator.register(locally()).unwrap();
    let running = Running::coordinator(&coordinator);
    let other = others.start("b", order("tea", 1)).await.unwrap();
    assert!(matches!(other.outcome().await.unwrap(), Outcome::Completed(_)));
    tokio::time::sleep(secs(30)).await;
    let names = history(&log, "saga-changed/a").await;
    assert_eq!(names.last().unwrap(), "saga.parked", "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == "saga.parked").count(), 1);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn many_inputs_for_one_saga_at_once_are_no_storm() {
    let (log, theirs, world, bus) = (Memory::new(), Memory::new(), World::default(), Bus::memory());
    let served = Running::participant(participants(&theirs.open(), &world), &bus);
    let coordinators: Vec<_> = (0..4).map(|_| Coordinator::new(&log.open()).bus(bus.clone())).collect();
    let sagas: Vec<Sagas<Order>> = coordinators.iter().map(|one| one.register(by_bus()).unwrap()).collect();
    let running: Vec<_> = coordinators.iter().map(Running::coordinator).collect();
    let saga = sagas[0].start("a", order("tea", 450)).await.unwrap();
    let mut verbs = Vec::new();
    for n in 0..40 {
        let saga = sagas[n % 4].get("a").await.unwrap();
        verbs.push(tokio::spawn(async move { saga.cancel("all at once").await }));
    }
    for verb in verbs {
        let said = verb.await.unwrap();
        assert!(matches!(said, Ok(()) | Err(Error::Illegal { .. })), "{said:?}");
    }
    let outcome = saga.outcome().await.unwrap();
    let did = world.of("a");
    match outcome {
        Outcome::Completed(_) => assert_eq!(did, ["reserve", "charge", "ship"]),
        Outcome::Compensated { .. } => assert!(did.is_empty() || did == ["reserve", "release"], "{did:?}"),
        other => panic!("{other:?}"),
    }
    let cancels = history(&log, "saga-by-bus/a")
        .await
        .iter()
        .filter(|name| *name == "saga.cancel-requested")
        .count();
    assert!(cancels <= 1, "{cancels}");
    for one in running {
        one.end().await;
    }
    served.end().await;
}

async fn hangs(State(world): State<World>, saga: SagaContext, order: Order) -> Answer<()> {
    world.did(&saga.key, "begun");
    tokio::time::sleep(secs(order.cents.into())).await;
    Done(())
}

/// A wait of some milliseconds, or for a function, is as long as that, wherever the log's clock goes meanwhile.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_keeps_nobody_waiting() {
    let (log, world) = (Memory::new(), World::default());
    let definition = || {
        let step = local(hangs).no_undo().timeout(secs(30));
        Saga::define("slow").step("one", step).build()
    };
    let coordinator = Coordinator::new(&log.open()).with_state(world.clone());
    let sagas = coordinator.register(definition()).unwrap();
    let running = Running::coordinator(&coordinator);
    // A process that only waits: it looks at the log at short intervals.
    let elsewhere = Coordinator::new(&log.open()).register(definition()).unwrap();
    sagas.start("long", order("tea", 1_000)).await.unwrap();
    sagas.start("short", order("tea", 5)).await.unwrap();
    let waits = tokio::spawn(async move { elsewhere.get("short").await.unwrap().outcome().await });
    for n in 0..24 {
        // Something to look at, so that it is in the midst of a pause.
        sagas.start(format!("other-{n}"), order("tea", 0)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
        log.jump(jiff::SignedDuration::from_hours(-1));
    }
    let told = tokio::time::timeout(secs(10), waits).await.expect("it is told in time");
    assert!(matches!(told.unwrap().unwrap(), Outcome::Completed(_)));
    tokio::time::sleep(secs(30)).await;
    let names = history(&log, "saga-slow/long").await;
    assert_eq!(names, ["saga.started", "saga.step-timed-out"]);
    running.end().await;
}

/// Whoever waits has looked at a part of the log that is gone: what stands there now is no less news.
/// How long a slow step takes in a process.
#[derive(Clone)]
struct Takes(Duration);

async fn dawdle(State(Takes(time)): State<Takes>, _: Order) -> Answer<()> {
    tokio::time::sleep(time).await;
    Done(())
}
async fn hurry(_: Order) -> Answer<()> {
    Done(())
}

/// A saga's shard goes to another process while its step runs: both run the same attempt. What the one has not learnt in
/// time and what the other has are two things, and both are written down.
#[tokio::test(start_paused = true)]
async fn two_processes_may_come_to_different_ends_of_one_attempt() {
    const SAGAS: u32 = 16;
    let definitions = || {
        let slow = || local(dawdle).timeout(secs(10)).no_undo();
        let short = Saga::<Order>::define("short").step("slow", slow()).build();
        let long = Saga::<Order>::define("long").step("slow", slow());
        [short, long.step("quick", local(hurry).no_undo()).build()]
    };
    let log = Memory::new();
    let with = |time: Duration| Coordinator::new(&log.open()).with_state(Takes(time));
    let (stuck, well) = (with(secs(3_600)), with(Duration::from_millis(9_500)));
    for coordinator in [&stuck, &well] {
        for definition in definitions() {
            coordinator.register(definition).unwrap();
        }
    }
    let sagas: Vec<Sagas<Order>> = definitions()
        .map(|definition| stuck.register(definition).unwrap())
        .into();
    let first = Running::coordinator(&stuck);
    for n in 0..SAGAS {
        for sagas in &sagas {
            sagas.start(n, order("tea", 1)).await.unwrap();
        }
    }
    // All of them run in the first process; half of them go to the second, which is done after the first has given up.
    tokio::time::sleep(secs(1)).await;
    let second = Running::coordinator(&well);
    tokio::time::sleep(secs(30)).await;
    first.kill().await;
    for (sagas, name) in sagas.iter().zip(["short", "long"]) {
        for n in 0..SAGAS {
            let saga = sagas.get(n).await.unwrap();
            let outcome = tokio::time::timeout(secs(120), saga.outcome()).await;
            let story = history(&log, &format!("saga-{name}/{n}")).await;
            assert!(
                matches!(outcome, Ok(Ok(Outcome::Completed(_)))),
                "{name} {n}: {outcome:?}, {story:?}"
            );
        }
    }
    second.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_although_the_log_lost_its_tail() {
    for regrown in [0, 1, 40] {
        let (log, world) = (Memory::new(), World::default());
        let definition = || Saga::define("slow").step("one", local(hangs).no_undo()).build();
        let elsewhere = Coordinator::new(&log.open()).register(definition()).unwrap();
        let saga = elsewhere.start("a", order("tea", 1)).await.unwrap();
        let store = log.open();
        let grow = async |events: usize| {
            for _ in 0..events {
                let append = Append {
                    stream: "noise-1".into(),
                    expected: Expected::Any,
                    events: vec![NewEvent::new("noted", "1")],
                };
                store.commit(append).await.unwrap();
            }
        };
        grow(20).await;
        let waits = tokio::spawn(async move { saga.outcome().await });
        tokio::time::sleep(secs(1)).await;
        grow(5).await;
        tokio::time::sleep(secs(1)).await;
        log.lose_tail(Position(1));
        let coordinator = Coordinator::new(&log.open()).with_state(world);
        coordinator.register(definition()).unwrap();
        let running = Running::coordinator(&coordinator);
        grow(regrown).await;
        let told = tokio::time::timeout(secs(60), waits).await.expect("it is told in time");
        assert!(matches!(told.unwrap().unwrap(), Outcome::Completed(_)));
        running.end().await;
    }
}

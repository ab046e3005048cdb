//! `docker-compose.yml`, as a newcomer starts it, on each bus: orders complete and compensate, then every container is killed
//! in turn, under load, `SAGAMILL_ROUNDS` times (default 2), and in the end all sagas have ended and the books balance.
//!
//! Needs a Docker engine with the images of databases and brokers; `cargo xtask images` makes ours.

#![expect(clippy::print_stdout, reason = "a long test says what it did")]

mod stack;

use std::time::{Duration, Instant};

use serde_json::Value;
use stack::Stack;

/// How long all containers may take until they are healthy; how soon they are is told.
const START: Duration = Duration::from_secs(120);
/// How long sagas may take to end in both ways, and all of them after the load has stopped.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a container stays dead.
const DEAD: Duration = Duration::from_secs(1);

#[test]
fn shop_over_nats_outlives_each_container() {
    outlives_each_container("nats");
}

#[test]
fn shop_over_kafka_outlives_each_container() {
    outlives_each_container("kafka");
}

#[test]
fn shop_over_rabbitmq_outlives_each_container() {
    outlives_each_container("rabbitmq");
}

fn outlives_each_container(bus: &'static str) {
    let rounds = std::env::var("SAGAMILL_ROUNDS").map_or(2, |text| text.parse().expect("SAGAMILL_ROUNDS is a number"));
    let begun = Instant::now();
    let stack = Stack::up(bus, START);
    println!("{bus}: healthy after {:?}", begun.elapsed());
    wait(&stack, "orders completed and undone", |ledger| {
        count(ledger, "completed") > 0 && count(ledger, "compensated") > 0
    });
    println!("{bus}: orders completed and undone after {:?}", begun.elapsed());
    let mut kills = 0;
    for _ in 0..rounds {
        for container in stack.containers() {
            let killed = Instant::now();
            stack.kill(&container);
            std::thread::sleep(DEAD);
            stack.start(&container, START);
            println!(
                "{bus}: {container} was killed, and is back after {:?}",
                killed.elapsed()
            );
            kills += 1;
        }
    }
    stack.stop_load();
    let stopped = Instant::now();
    let ledger = wait(&stack, "all sagas ended", |ledger| ledger["in_flight"] == 0);
    println!(
        "{bus}: {kills} kills; the last saga ended {:?} after the load; {ledger}",
        stopped.elapsed()
    );
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert_eq!(count(&ledger, "parked"), 0, "{ledger}");
}

fn count(ledger: &Value, what: &str) -> u64 {
    ledger["orders"][what].as_u64().expect("the ledger counts orders")
}

/// Asks for the ledger until it is as it should be.
fn wait(stack: &Stack, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    let mut last = None;
    while Instant::now() < end {
        // Not all that is asked for it may be back yet.
        if let Some(ledger) = stack.ledger() {
            if is_so(&ledger) {
                return ledger;
            }
            last = Some(ledger);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!(
        "not within {PATIENCE:?}: {what}; the last ledger: {last:?}\n{}",
        stack.logs()
    );
}

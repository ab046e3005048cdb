//! The simulation: coordinators, participants and relays as they are, over logs and a bus in memory, in virtual time, under
//! crashes, duplicates, reordering, delays, clock jumps and stores that fail or lie, by seed.
//!
//! `SAGAMILL_SEEDS` says how many schedules (default 200), `SAGAMILL_SEED` which one alone: a failing seed prints itself, and
//! plays the same again, byte for byte (`replay`); with `RUST_LOG` set it tells what it does, and `SAGAMILL_TRACE` names a
//! file for all that can be seen of it.

#![expect(clippy::print_stdout, reason = "a long test says what it did")]

mod history;
mod lost_tail;
mod node;
mod replay;
mod schedule;
mod trace;
mod world;

#[test]
fn every_schedule_keeps_every_promise() {
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    if let Some(seed) = number("SAGAMILL_SEED") {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .init();
        let (tally, record) = schedule::run(seed);
        println!("simulation: SAGAMILL_SEED={seed}, fingerprint {}", record.fingerprint());
        return tally.print();
    }
    let count = number("SAGAMILL_SEEDS").unwrap_or(200);
    let started = std::time::Instant::now();
    let mut tally = schedule::Tally::default();
    for seed in 0..count {
        tally += schedule::run(seed).0;
    }
    println!("simulation: SAGAMILL_SEEDS={count}, {:?}", started.elapsed());
    tally.print();
    tally.assert_that_something_happened(count);
}

#[test]
fn a_lost_tail_is_never_passed_in_silence() {
    let noticed = (0..60)
        .filter(|seed| schedule::quietly(|| lost_tail::run(*seed)))
        .count();
    println!("simulation: {noticed} of 60 logs had lost what somebody had read, and said so");
    assert!((10..60).contains(&noticed), "both kinds of loss have to be tried");
}

//! A seed is worth something only if it plays the same again: twice in a process, and in another process, whose hash maps
//! and addresses are others.

use std::process::Command;

use crate::schedule;

/// So many seeds, where it is not said.
const SEEDS: u64 = 50;
/// How the other process is told which seeds to play.
const SAY: &str = "SAGAMILL_FINGERPRINTS";

#[test]
fn a_seed_plays_the_same_each_time_and_in_each_process() {
    let here: Vec<String> = (0..SEEDS).map(twice).collect();
    let there = elsewhere();
    let differ: Vec<u64> = (0..SEEDS)
        .filter(|seed| here.get(*seed as usize) != there.get(*seed as usize))
        .collect();
    assert!(
        differ.is_empty(),
        "seeds {differ:?} play otherwise in another process: SAGAMILL_SEED=<seed> SAGAMILL_TRACE=<file> writes down how"
    );
}

fn twice(seed: u64) -> String {
    let [(_, first), (_, second)] = [schedule::run(seed), schedule::run(seed)];
    if let Some(difference) = first.difference(&second) {
        panic!("SAGAMILL_SEED={seed} plays otherwise the second time: {difference}");
    }
    first.fingerprint()
}

/// The fingerprints of the same seeds, as another process finds them.
fn elsewhere() -> Vec<String> {
    let mut other = Command::new(std::env::current_exe().expect("a test is a program"));
    other.args(["--exact", "replay::prints_fingerprints", "--ignored", "--nocapture"]);
    let output = other.env(SAY, SEEDS.to_string()).output().expect("the test runs again");
    let said = String::from_utf8_lossy(&output.stdout);
    let fingerprints: Vec<String> = said
        .lines()
        .filter_map(|line| {
            line.split_once("fingerprint ")
                .map(|(_, fingerprint)| fingerprint.to_owned())
        })
        .collect();
    assert_eq!(
        fingerprints.len() as u64,
        SEEDS,
        "the other process ended otherwise: {said}"
    );
    fingerprints
}

#[test]
#[ignore = "the other process of the test above"]
fn prints_fingerprints() {
    let seeds = std::env::var(SAY)
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(SEEDS);
    for seed in 0..seeds {
        println!("fingerprint {}", schedule::run(seed).1.fingerprint());
    }
}

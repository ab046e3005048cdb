//! The shop in one process, on SQLite.

mod process;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use process::Dev;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use shop_frame::Location;

use crate::{
    alone,
    books::{self, Books},
    number,
    recovery::Recovery,
};

/// Where a process can be told to die, and at how late a pass at most: rare points have few passes in a run.
const POINTS: &[(&str, u32)] = &[
    ("log.append.before", 120),
    ("log.append.after", 120),
    ("log.stage.before", 60),
    ("log.stage.after", 60),
    ("log.commit.before", 60),
    ("log.commit.after", 60),
    ("order.place.before", 20),
    ("order.place.after", 20),
    ("relay.publish.before", 60),
    ("relay.publish.after", 60),
    ("checkpoint.save.before", 20),
    ("checkpoint.save.after", 20),
    ("bus.settle.before", 60),
    ("bus.settle.after", 60),
    ("saga.append.before", 60),
    ("saga.append.after", 60),
    ("saga.settle.before", 60),
    ("saga.settle.after", 60),
    ("participant.effect.before", 30),
    ("participant.effect.after", 30),
    ("participant.undo.before", 8),
    ("participant.undo.after", 8),
    ("participant.commit.before", 40),
    ("participant.commit.after", 40),
    ("participant.settle.before", 40),
    ("participant.settle.after", 40),
    ("local.effect.before", 6),
    ("local.effect.after", 6),
    ("provider.call.before", 16),
    ("provider.call.after", 16),
];

/// Kills on one directory before its books are checked and a new one is begun: logs stay short enough to be read often.
const KILLS_PER_SHOP: u32 = 30;
const RATE: u32 = 40;

#[derive(Default)]
struct Tally {
    by_point: BTreeMap<&'static str, u32>,
    at_random: u32,
    never_reached: u32,
    sagas: usize,
    recovery: Recovery,
}

impl Tally {
    fn kills(&self) -> u32 {
        self.by_point.values().sum::<u32>() + self.at_random
    }
    fn print(&mut self) {
        println!(
            "crash test in one process: {} kills ({} at random moments), {} sagas, {}",
            self.kills(),
            self.at_random,
            self.sagas,
            self.recovery.summary(),
        );
        for (point, kills) in &self.by_point {
            println!("  {point}: {kills}");
        }
        println!(
            "  points not reached in a run, killed at random instead: {}",
            self.never_reached
        );
    }
}

#[test]
fn killed_anywhere_every_saga_ends_with_exactly_its_effects() {
    let _alone = alone();
    let wanted = number("SAGAMILL_KILLS", || 40) as u32;
    let seed = number("SAGAMILL_SEED", || rand::rng().random());
    println!("crash test in one process: SAGAMILL_KILLS={wanted} SAGAMILL_SEED={seed}");
    let mut dice = SmallRng::seed_from_u64(seed);
    let mut tally = Tally::default();
    let mut point = 0;
    while tally.kills() < wanted {
        let mut dir = tempfile::tempdir().expect("a temporary directory");
        // Where the test fails, the databases stay, to be looked into.
        dir.disable_cleanup(true);
        let data = dir.path().join("shop");
        let kills = KILLS_PER_SHOP.min(wanted - tally.kills());
        one_shop(&data, kills, &mut point, &mut dice, &mut tally);
        dir.disable_cleanup(false);
    }
    tally.print();
    assert!(tally.kills() >= wanted, "it has to kill");
    let reached = tally.by_point.len();
    assert!(
        wanted < 2 * POINTS.len() as u32 || reached == POINTS.len(),
        "only {reached} of {} points killed",
        POINTS.len()
    );
    assert!(
        tally.recovery.caught() > 0,
        "no saga was in flight at any kill: the load is too small"
    );
}

fn one_shop(data: &Path, kills: u32, point: &mut usize, dice: &mut SmallRng, tally: &mut Tally) {
    let books = Books::new(|service| Location::File(data.join(format!("{service}.db"))));
    let mut done = 0;
    while done < kills {
        // Every fifth kill comes from outside, at any moment; the others at each point in turn.
        let kill = (done % 5 != 4).then(|| POINTS[*point % POINTS.len()]);
        let told = kill.map(|(name, most)| format!("{name}:{}", dice.random_range(1..=most)));
        let mut dev = Dev::start(data, RATE, dice.random(), told.as_deref());
        tally.recovery.restart(dev.started);
        let patience = Duration::from_millis(if kill.is_some() {
            8_000
        } else {
            dice.random_range(100..2_500)
        });
        let died = dev.dies_within(patience);
        if died && kill.is_none() {
            panic!(
                "the process ended by itself; see {}",
                data.with_extension("log").display()
            );
        }
        match kill {
            Some((name, _)) if died => *tally.by_point.entry(name).or_default() += 1,
            Some(_) => tally.never_reached += 1,
            None => tally.at_random += 1,
        }
        if !died {
            dev.kill();
        }
        if kill.is_some() {
            *point += 1;
        }
        // A point that was not reached is no kill there, but one all the same.
        if kill.is_some() && !died {
            tally.at_random += 1;
        }
        done += 1;
        note_recoveries(&dev, tally);
        tally.recovery.begin(books::block_on(books.in_flight()), Instant::now());
    }
    let mut dev = Dev::start(data, 0, 0, None);
    tally.recovery.restart(dev.started);
    wait_until_all_ended(&mut dev, data, &books, tally);
    drop(dev);
    tally.sagas += books::block_on(books.check());
}

/// How long after the start each saga ended that the last kill had caught in flight.
fn note_recoveries(dev: &Dev, tally: &mut Tally) {
    while let Some(ended) = dev.next(Duration::from_millis(20)) {
        assert_ne!(ended.state, "parked", "saga {} is parked", ended.saga);
        tally.recovery.ended(&ended.saga, ended.at);
    }
}

fn wait_until_all_ended(dev: &mut Dev, data: &Path, books: &Books, tally: &mut Tally) {
    let end = Instant::now() + Duration::from_secs(240);
    loop {
        note_recoveries(dev, tally);
        let left = books::block_on(books.in_flight());
        if left.is_empty() {
            return;
        }
        assert!(
            !dev.gone(),
            "the process ended by itself; see {}",
            data.with_extension("log").display()
        );
        assert!(
            Instant::now() < end,
            "still in flight 240 s after the last start, in {}: {left:?}",
            data.display()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

//! The shop as processes of their own: four services and two coordinators on PostgreSQL, each service with a database and a
//! role of its own, and the bus in a database beside them.
//!
//! Faults of every kind come one after another, under load: kills at named points and at random moments, pauses longer than
//! the lease, ends of the server in order and by crash, connections cut. After each, every saga that it caught must end.

mod faults;
mod load;
mod member;
mod metrics;
mod place;
mod watch;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use faults::{Fault, schedule};
use load::Load;
use member::Role;
use metrics::Counters;
use place::Place;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use watch::Watch;

use crate::{alone, books, number, recovery::Recovery};

/// How long a process may take to reach its point before it is killed wherever it is.
const REACH: Duration = Duration::from_secs(6);
/// Longer than the lease of anything: ten seconds.
const PAUSE: Duration = Duration::from_secs(12);
/// How long it is told how soon they end that a fault has caught; that they end is tested after that.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Default)]
struct Tally {
    by_point: BTreeMap<&'static str, u32>,
    never_reached: u32,
    /// How the sagas fared that faults of a kind caught in flight.
    recoveries: BTreeMap<&'static str, (u32, Recovery)>,
    sessions_cut: u64,
    counters: Counters,
}

impl Tally {
    fn print(&mut self, sagas: usize) {
        println!("crash test over processes: {sagas} sagas, {}", self.counters);
        for (kind, (faults, recovery)) in &mut self.recoveries {
            println!("  {kind}: {faults}; {}", recovery.summary());
        }
        println!("  sessions cut: {}", self.sessions_cut);
        println!(
            "  points not reached in a run, killed at random instead: {}",
            self.never_reached
        );
        for (point, kills) in &self.by_point {
            println!("  {point}: {kills}");
        }
    }
}

#[test]
fn whatever_is_killed_paused_or_cut_every_saga_ends_with_exactly_its_effects() {
    let _alone = alone();
    let seed = number("SAGAMILL_SEED", || rand::rng().random());
    let mut dice = SmallRng::seed_from_u64(seed);
    let faults = schedule(&mut dice);
    println!(
        "crash test over processes: {}, SAGAMILL_SEED={seed}",
        faults::counts(&faults)
    );
    let Some(place) = books::block_on(Place::make()) else {
        return;
    };
    let mut tally = Tally::default();
    // Where the test fails, the logs of the processes stay, to be looked into.
    let mut logs = tempfile::tempdir().expect("a temporary directory");
    logs.disable_cleanup(true);
    println!("the processes write their logs to {}", logs.path().display());
    let mut shop = Shop::open(place, logs.path(), &mut dice);
    for (n, fault) in faults.iter().enumerate() {
        shop.strike(fault, &mut dice, &mut tally);
        shop.watch.let_all_end(&format!("fault {n}, {fault:?}"), logs.path());
    }
    let sagas = shop.close(&mut tally, logs.path());
    tally.print(sagas);
    for (kind, (_, recovery)) in &tally.recoveries {
        assert!(recovery.is_over(), "{kind}: a saga never ended");
    }
    let caught: usize = tally.recoveries.values().map(|(_, recovery)| recovery.caught()).sum();
    assert!(caught > 0, "no saga was in flight at any fault: the load is too small");
    logs.disable_cleanup(false);
}

/// All processes, and what is done to them.
struct Shop {
    place: Place,
    members: Vec<member::Member>,
    load: Load,
    watch: Watch,
}

impl Shop {
    fn open(place: Place, logs: &std::path::Path, dice: &mut SmallRng) -> Self {
        let mut members = place.members(logs);
        for member in &mut members {
            member.start(None);
        }
        for member in &mut members {
            member.get_ready();
        }
        let shop = members.iter().find(|member| member.role == Role::Order);
        let load = Load::start(shop.expect("invariant: there is one").address(), dice.random());
        let watch = Watch::of(&place);
        Self {
            place,
            members,
            load,
            watch,
        }
    }

    /// Does it, undoes it, and waits until all that it caught in flight has ended.
    fn strike(&mut self, fault: &Fault, dice: &mut SmallRng, tally: &mut Tally) {
        let (count, mut recovery) = tally.recoveries.remove(fault.kind()).unwrap_or_default();
        match *fault {
            Fault::Point { member, point, pass } => {
                let reached = self.kill_at(member, point, pass, &mut recovery, tally);
                if reached {
                    *tally.by_point.entry(point).or_default() += 1;
                } else {
                    tally.never_reached += 1;
                }
            }
            Fault::Random { member, after } => {
                std::thread::sleep(after);
                self.members[member].check_alive();
                self.kill(member, &mut recovery, tally);
            }
            Fault::Pause { member } => self.pause(member, &mut recovery, tally),
            Fault::Crash | Fault::Stop => self.restart_server(*fault == Fault::Crash, &mut recovery, dice),
            Fault::Cut { database } => {
                std::thread::sleep(Duration::from_millis(dice.random_range(20..200)));
                self.watch.begin(&mut recovery, Instant::now());
                tally.sessions_cut += books::block_on(self.place.cut(database));
            }
        }
        self.watch.follow(&mut recovery, PATIENCE);
        for member in &mut self.members {
            member.check_alive();
        }
        tally.recoveries.insert(fault.kind(), (count + 1, recovery));
    }

    /// Told to die at the pass of a point: started anew with that, for which it ends in order first.
    fn kill_at(&mut self, which: usize, point: &str, pass: u32, recovery: &mut Recovery, tally: &mut Tally) -> bool {
        let member = &mut self.members[which];
        // The last fault may have been its own death, a moment ago: it cannot end in order before it is up.
        member.get_ready();
        tally.counters.bank(member);
        member.end();
        member.start(Some(&format!("{point}:{pass}")));
        let reached = member.dies_within(REACH);
        if reached {
            self.revive(which, recovery);
        } else {
            self.kill(which, recovery, tally);
        }
        reached
    }
    fn kill(&mut self, which: usize, recovery: &mut Recovery, tally: &mut Tally) {
        let member = &mut self.members[which];
        tally.counters.bank(member);
        member.kill();
        self.revive(which, recovery);
    }
    /// Starts one again that has just died.
    fn revive(&mut self, which: usize, recovery: &mut Recovery) {
        self.watch.begin(recovery, Instant::now());
        self.members[which].start(None);
        recovery.restart(Instant::now());
    }
    /// Longer than its lease. Coordinators stand in for each other meanwhile; where a service is paused, others wait for it.
    fn pause(&mut self, member: usize, recovery: &mut Recovery, tally: &mut Tally) {
        let member = &mut self.members[member];
        member.pause();
        let paused = Instant::now();
        self.watch.begin(recovery, paused);
        if member.role.is_coordinator() {
            self.watch.follow(recovery, PAUSE);
        }
        std::thread::sleep(PAUSE.saturating_sub(paused.elapsed()));
        member.resume();
        if !member.role.is_coordinator() {
            recovery.restart(Instant::now());
        }
        // What it was at when it was stopped is refused now, and counted.
        std::thread::sleep(Duration::from_secs(1));
        tally.counters.bank(member);
    }
    fn restart_server(&self, crash: bool, recovery: &mut Recovery, dice: &mut SmallRng) {
        std::thread::sleep(Duration::from_millis(dice.random_range(20..400)));
        self.watch.begin(recovery, Instant::now());
        books::block_on(self.place.restart_server(crash));
        recovery.restart(Instant::now());
    }

    /// Ends the load, lets all sagas end, ends the processes, and holds the books against what the sagas say.
    fn close(mut self, tally: &mut Tally, logs: &std::path::Path) -> usize {
        self.load.stop();
        self.watch.let_all_end("the end of the load", logs);
        for (kind, (_, recovery)) in &tally.recoveries {
            let slowest = recovery.slowest().map(|saga| self.watch.story(saga));
            println!("the slowest after {kind}:\n{}", slowest.unwrap_or_default());
        }
        for member in &mut self.members {
            tally.counters.bank(member);
            member.end();
        }
        let place = &self.place;
        books::block_on(async { place.books().check().await })
    }
}

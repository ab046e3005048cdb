//! One schedule: a seed's choice of sagas and troubles, then calm, then the books.

use std::{
    cell::Cell,
    collections::BTreeMap,
    ops::AddAssign,
    sync::{Arc, Mutex, Once},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use sagamill::{
    bus::memory::{Faults as BusFaults, Memory as Broker},
    eventstore::{Fault, Memory},
    prelude::Outcome,
    saga::Sagas,
};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    history::{self, End, History},
    node::{Kind, Node, Site},
    trace::{Record, Trace},
    world::{Binary, FINAL, PANIC, Plan, UNDOABLE, VERSIONS, World},
};

/// What happened in schedules, so that a simulation that did nothing is told.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn count(&mut self, what: &'static str, n: usize) {
        *self.counts.entry(what).or_default() += n as u64;
    }
    pub(crate) fn print(&self) {
        for (what, n) in &self.counts {
            println!("  {what}: {n}");
        }
    }
    /// A fault that never struck has tested nothing.
    pub(crate) fn assert_that_something_happened(&self, schedules: u64) {
        if schedules < 50 {
            return;
        }
        for what in [
            "completed",
            "compensated",
            "crashes",
            "clock jumps",
            "flushes that failed",
            "flushes that lied",
            "undone effects",
            "parked for want of a definition",
        ] {
            assert!(
                self.counts.get(what).is_some_and(|n| *n > 0),
                "no {what} in {schedules} schedules"
            );
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        for (what, n) in other.counts {
            self.count(what, n as usize);
        }
    }
}

/// How long a schedule makes trouble, and how long after that all sagas must have ended, in virtual time.
const TROUBLE: Duration = Duration::from_secs(40);
const PATIENCE: Duration = Duration::from_secs(4 * 3_600);

/// Plays the schedule of a seed. Panics with the seed and what is broken.
pub(crate) fn run(seed: u64) -> (Tally, Record) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let Played {
        tally,
        record,
        story,
        broken,
    } = quietly(|| runtime.block_on(async { Schedule::new(seed).play().await }));
    if let Ok(path) = std::env::var("SAGAMILL_TRACE") {
        record.write(path);
    }
    assert!(
        broken.is_empty(),
        "SAGAMILL_SEED={seed} (fingerprint {}) breaks {} promises:\n{}\n{story}",
        record.fingerprint(),
        broken.len(),
        broken.join("\n"),
    );
    (tally, record)
}

/// What came of a schedule.
struct Played {
    tally: Tally,
    record: Record,
    /// The events of each saga.
    story: String,
    broken: Vec<String>,
}

/// Handlers panic on purpose in here: only the schedule's own panics are worth a word.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let on_purpose = panic.payload_as_str() == Some(PANIC);
            if !(QUIET.get() && on_purpose) {
                loud(panic);
            }
        }));
    });
    QUIET.set(true);
    let done = work();
    QUIET.set(false);
    done
}

struct Schedule {
    dice: SmallRng,
    site: Site,
    nodes: Vec<Node>,
    /// When a node that was killed comes back.
    down: Vec<(Instant, Kind)>,
    plans: Vec<Plan>,
    /// How far each log's clock is off.
    off: [SignedDuration; 4],
    faults: Arc<Mutex<Faults>>,
    /// Those who have started sagas and wait for their ends.
    clients: JoinSet<Option<(u32, End)>>,
    tally: Tally,
}

/// How often flushes fail and lie, and how often they did.
#[derive(Default)]
struct Faults {
    on: bool,
    refused: usize,
    lied: usize,
}

const KINDS: [Kind; 5] = [
    Kind::Coordinator,
    Kind::Coordinator,
    Kind::Stock,
    Kind::Money,
    Kind::Parcel,
];

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut dice = SmallRng::seed_from_u64(seed);
        let epoch = Timestamp::from_second(1_800_000_000).expect("a time");
        let trace = Trace::new();
        let logs = std::array::from_fn(|n| Memory::seeded(epoch, seed ^ ((n as u64 + 1) << 32)));
        let faults = Arc::new(Mutex::new(Faults {
            on: true,
            ..Faults::default()
        }));
        for (n, log) in logs.iter().enumerate() {
            log.on_flush(decide(n, faults.clone(), dice.random::<u64>() ^ n as u64, &trace));
        }
        let site = Site {
            world: World::new(seed, &trace),
            trace,
            broker: troubled_broker(dice.random()),
            lease: Duration::from_secs(dice.random_range(1..12)),
            logs,
        };
        let nodes = KINDS
            .iter()
            .map(|kind| Node::start(*kind, binary(&mut dice), &site))
            .collect();
        let plans = (0..dice.random_range(2..6))
            .map(|number| plan(number, &mut dice))
            .collect();
        Self {
            dice,
            site,
            nodes,
            down: Vec::new(),
            plans,
            off: [SignedDuration::ZERO; 4],
            faults,
            clients: JoinSet::new(),
            tally: Tally::default(),
        }
    }

    async fn play(mut self) -> Played {
        let mut broken = Vec::new();
        let end = Instant::now() + TROUBLE;
        let mut waiting: Vec<u32> = self.plans.iter().map(|plan| plan.number).rev().collect();
        while Instant::now() < end {
            self.pause(20..900).await;
            self.bring_back(false);
            match self.dice.random_range(0..10) {
                0..4 => self.start(&mut waiting),
                4..6 => self.kill_one(),
                6 => self.kill_all(),
                7 => self.jump(),
                8 if self.dice.random_ratio(1, 4) => self.cancel(),
                _ => {}
            }
            broken.extend(self.nodes.iter_mut().filter_map(Node::broken));
        }
        self.calm(&mut waiting);
        let histories = self.wait_for_ends().await;
        self.judge(&histories, &mut broken);
        self.ask_clients(&histories, &mut broken).await;
        for log in &self.site.logs {
            self.site.trace.take_log(&log.open()).await;
        }
        Played {
            tally: self.tally,
            record: self.site.trace.record(),
            story: histories.iter().map(History::story).collect::<Vec<_>>().join("\n"),
            broken,
        }
    }

    async fn pause(&mut self, millis: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.dice.random_range(millis))).await;
    }

    /// Starts the next saga, now and then on both coordinators at once; a start that fails is tried again later.
    fn start(&mut self, waiting: &mut Vec<u32>) {
        let Some(number) = waiting.last() else { return };
        let plan = self.plans[*number as usize].clone();
        let coordinators = self.coordinators(plan.version);
        if coordinators.is_empty() {
            return;
        }
        waiting.pop();
        let twice = self.dice.random_ratio(1, 3);
        for sagas in coordinators.into_iter().take(1 + usize::from(twice)) {
            self.clients.spawn(client(sagas, plan.clone(), self.site.trace.clone()));
        }
    }

    /// Those that know a version.
    fn coordinators(&self, version: u32) -> Vec<Sagas<Plan>> {
        let known = self.nodes.iter().filter_map(|node| node.sagas.get(&version));
        known.cloned().collect()
    }

    fn kill_one(&mut self) {
        if self.nodes.is_empty() {
            return;
        }
        let node = self.nodes.remove(self.dice.random_range(0..self.nodes.len()));
        self.site.trace.note(format_args!("kill {:?}", node.kind));
        let back = Instant::now() + Duration::from_millis(self.dice.random_range(1..15_000));
        self.down.push((back, node.kind));
        self.tally.count("crashes", 1);
    }

    /// Everything dies, the broker too, and what it held in memory.
    fn kill_all(&mut self) {
        if !self.dice.random_ratio(1, 3) {
            return;
        }
        self.site.trace.note("kill all");
        self.tally.count("crashes", self.nodes.len());
        self.tally.count("crashes of all", 1);
        self.down
            .extend(self.nodes.drain(..).map(|node| (Instant::now(), node.kind)));
        self.site.broker = troubled_broker(self.dice.random());
        let back = Instant::now() + Duration::from_millis(self.dice.random_range(1..3_000));
        for (when, _) in &mut self.down {
            *when = back;
        }
    }

    fn bring_back(&mut self, all: bool) {
        let now = Instant::now();
        let (back, down) = self.down.drain(..).partition(|(when, _)| all || *when <= now);
        self.down = down;
        let back: Vec<(Instant, Kind)> = back;
        for (_, kind) in back {
            let binary = if all { Binary::Whole } else { binary(&mut self.dice) };
            self.nodes.push(Node::start(kind, binary, &self.site));
        }
    }

    /// Sets the clock of one log to another time, at most an hour off in either direction.
    fn jump(&mut self) {
        let off = SignedDuration::from_secs(self.dice.random_range(-3_600..3_600));
        let log = self.dice.random_range(0..self.site.logs.len());
        self.site
            .trace
            .note(format_args!("the clock of log {log} is {off:?} off"));
        self.site.logs[log].jump(off - self.off[log]);
        self.off[log] = off;
        self.tally.count("clock jumps", 1);
    }

    fn cancel(&mut self) {
        let number = self.dice.random_range(0..self.plans.len()) as u32;
        let version = self.plans[number as usize].version;
        if let Some(sagas) = self.coordinators(version).into_iter().next() {
            self.tally.count("cancels", 1);
            tokio::spawn(async move {
                if let Ok(saga) = sagas.get(key(number)).await {
                    let _ = saga.cancel("the schedule says so").await;
                }
            });
        }
    }

    /// No more trouble: everybody is there, and those not started yet are.
    fn calm(&mut self, waiting: &mut Vec<u32>) {
        self.site.world.calm();
        self.site.broker.calm();
        self.faults.lock().expect("invariant: no panic under this lock").on = false;
        // What one of them does not know, the other must.
        self.restart_coordinators();
        self.bring_back(true);
        while !waiting.is_empty() {
            self.start(waiting);
        }
    }

    fn restart_coordinators(&mut self) {
        let now = Instant::now();
        let gone = self.nodes.extract_if(.., |node| node.kind == Kind::Coordinator);
        self.down.extend(gone.map(|node| (now, node.kind)));
    }

    async fn wait_for_ends(&mut self) -> Vec<History> {
        let store = self.site.logs[0].open();
        let end = Instant::now() + PATIENCE;
        loop {
            let mut histories = Vec::new();
            for plan in &self.plans {
                histories.push(history::read(&store, &key(plan.number)).await);
            }
            let ended = |history: &History| matches!(history.end(), End::Completed | End::Compensated);
            if histories.iter().all(ended) || Instant::now() > end {
                return histories;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    /// Whoever waits for an end is told, and told the right one.
    async fn ask_clients(&mut self, histories: &[History], broken: &mut Vec<String>) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        while let Some(told) = self.clients.try_join_next() {
            let Some((number, end)) = told.expect("no client panics") else {
                self.tally.count("clients of another shape", 1);
                continue;
            };
            let history = &histories[number as usize];
            if history.end() != end {
                broken.push(format!(
                    "a client of saga {} was told {end:?}, it is {:?}",
                    history.key,
                    history.end()
                ));
            }
            self.tally.count("clients told", 1);
        }
        if !self.clients.is_empty() {
            broken.push(format!("{} clients still wait for an end", self.clients.len()));
        }
    }

    fn judge(&mut self, histories: &[History], broken: &mut Vec<String>) {
        let books = self.site.world.books();
        broken.extend(books.broken.iter().cloned());
        for (plan, history) in self.plans.iter().zip(histories) {
            history.check(&books, plan, broken);
            self.tally.count("parked for want of a definition", history.parked());
            let end = match history.end() {
                End::Completed => "completed",
                End::Compensated => "compensated",
                End::Running | End::Parked => {
                    broken.push(format!(
                        "saga {} is {:?} after {PATIENCE:?} of calm",
                        history.key,
                        history.end()
                    ));
                    "not ended"
                }
            };
            self.tally.count(end, 1);
            if end == "completed" && plan.rejected_at.is_some() {
                broken.push(format!(
                    "saga {} completed although {:?} says no",
                    history.key, plan.rejected_at
                ));
            }
            self.tally.count("events", history.len());
        }
        self.tally.count(
            "undone effects",
            books.effects.values().filter(|effect| effect.acts == "AC").count(),
        );
        let faults = self.faults.lock().expect("invariant: no panic under this lock");
        self.tally.count("flushes that failed", faults.refused);
        self.tally.count("flushes that lied", faults.lied);
        self.tally.count("sagas", histories.len());
    }
}

/// Starts a saga, however often that fails, and waits for its end. None: it was started before, by another shape than this
/// client's process knows.
async fn client(sagas: Sagas<Plan>, plan: Plan, trace: Trace) -> Option<(u32, End)> {
    let number = plan.number;
    let saga = loop {
        match sagas.start(key(number), plan.clone()).await {
            Ok(saga) => break saga,
            Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(300)).await,
            Err(error) => {
                trace.note(format_args!("a client cannot start saga {number}: {error:?}"));
                return None;
            }
        }
    };
    loop {
        let end = match saga.outcome().await {
            Ok(Outcome::Completed(_)) => End::Completed,
            Ok(Outcome::Compensated { .. }) => End::Compensated,
            // Parked is no end yet; and a log that fails is asked again.
            _ => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                continue;
            }
        };
        trace.note(format_args!("a client hears that saga {number} is {end:?}"));
        return Some((number, end));
    }
}

fn key(number: u32) -> String {
    format!("order-{number}")
}

fn plan(number: u32, dice: &mut SmallRng) -> Plan {
    let steps: Vec<&str> = UNDOABLE.into_iter().chain(FINAL.into_iter().take(1)).collect();
    let rejected_at = dice
        .random_ratio(1, 2)
        .then(|| steps[dice.random_range(0..steps.len())].to_owned());
    Plan {
        version: VERSIONS[dice.random_range(0..VERSIONS.len())],
        number,
        rejected_at,
        replies: Vec::new(),
    }
}

/// Which program a coordinator runs: now and then one that knows less.
fn binary(dice: &mut SmallRng) -> Binary {
    Binary::ALL[dice.random_range(0..Binary::ALL.len())]
}

fn troubled_broker(seed: u64) -> Broker {
    let broker = Broker::new();
    let faults = BusFaults::seeded(seed)
        .duplicate(0.1)
        .delay(0.1, Duration::from_secs(4))
        .reorder(0.2);
    broker.inject(
        faults
            .lose_ack(0.05, Duration::from_secs(3))
            .refuse(0.05)
            .unconfirmed(0.03),
    );
    broker
}

/// Two flushes in a hundred fail, two more lie.
fn decide(
    log: usize,
    faults: Arc<Mutex<Faults>>,
    seed: u64,
    trace: &Trace,
) -> impl FnMut(usize) -> Fault + Send + use<> {
    let (mut dice, trace) = (SmallRng::seed_from_u64(seed), trace.clone());
    move |batches| {
        let mut faults = faults.lock().expect("invariant: no panic under this lock");
        let roll = dice.random_range(0..100);
        trace.note(format_args!("log {log} flushes {batches}, roll {roll}"));
        match roll {
            _ if !faults.on => Fault::None,
            0 | 1 => {
                faults.refused += 1;
                Fault::Refused
            }
            2 => {
                faults.lied += 1;
                Fault::LostBefore
            }
            3 => {
                faults.lied += 1;
                Fault::LostAfter
            }
            _ => Fault::None,
        }
    }
}

//! Messages of five kinds that cannot be handled, among many that can: each is given up after the attempts of its error class,
//! with its reason, and the others are not held up.
//!
//! `SAGAMILL_POISON` says how many there are of each kind (default 10), among a hundred times as many good ones.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sagamill_bus::{Bus, DeadLetter, HandlerError, Json, Message, Retry, Router, State, Topic};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::fixture::{PATIENCE, Took, connect, count, shared, topic};

const ATTEMPTS: u32 = 3;
/// Good ones for each that is not, of each kind.
const GOOD: usize = 100;
/// How many are published at once.
const BATCH: usize = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Kind {
    Good,
    /// No JSON at all.
    Undecodable,
    /// Refused for good by its handler.
    Permanent,
    /// Fails each time.
    Transient,
    /// Its handler panics.
    Panics,
    /// Fails each time, and may not hold its key for as long as all its attempts would take.
    Held,
}

impl Kind {
    const POISON: [Self; 5] = [
        Self::Undecodable,
        Self::Permanent,
        Self::Transient,
        Self::Panics,
        Self::Held,
    ];

    fn message(self, n: usize) -> Message {
        let payload = match self {
            Self::Undecodable => "{".to_owned(),
            kind => serde_json::to_string(&Work { kind, n }).unwrap(),
        };
        // Those that are tried again have keys of their own.
        let key = match self {
            Self::Good => format!("good-{}", n % 64),
            kind => format!("{kind:?}-{n}"),
        };
        Message::new(payload).key(key)
    }
    /// Whether a dead letter says what it should.
    fn check(self, letter: &DeadLetter) {
        let (attempts, reason) = (letter.last.attempts, letter.last.reason.as_str());
        let (right, words) = match self {
            Self::Undecodable => (attempts == 1, "cannot be read"),
            Self::Permanent => (attempts == 1, "no such sku"),
            Self::Transient => (attempts == ATTEMPTS, "refused"),
            Self::Panics => (attempts == ATTEMPTS, "the handler panicked: out of range"),
            Self::Held => (attempts < ATTEMPTS, "refused"),
            Self::Good => panic!("a good one was given up: {letter:?}"),
        };
        assert!(right && reason.contains(words), "{self:?}: {letter:?}");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Work {
    kind: Kind,
    n: usize,
}

#[derive(Default)]
struct Seen {
    attempts: Mutex<HashMap<Work, u32>>,
    /// How many good ones have come.
    good: AtomicUsize,
    news: Notify,
}

impl Seen {
    /// An attempt is made.
    fn note(&self, work: Work) {
        let mut attempts = self.attempts.lock().unwrap();
        let attempts = attempts.entry(work).or_default();
        *attempts += 1;
        if (work.kind, *attempts) == (Kind::Good, 1) {
            self.good.fetch_add(1, Relaxed);
            self.news.notify_one();
        }
    }
    fn attempts(&self, work: Work) -> u32 {
        self.attempts.lock().unwrap().get(&work).copied().unwrap_or_default()
    }
}

async fn handle(State(seen): State<Arc<Seen>>, Json(work): Json<Work>) -> Result<(), HandlerError> {
    seen.note(work);
    match work.kind {
        Kind::Good => Ok(()),
        Kind::Permanent => Err(HandlerError::permanent("no such sku")),
        // As a panic does, but that it does not print itself.
        Kind::Panics => std::panic::resume_unwind(Box::new("out of range")),
        _ => Err(std::io::Error::other("refused").into()),
    }
}

/// Publishes all of it, and gives back how long it took until the good ones were handled and the others dead letters.
async fn run(
    bus: &Bus,
    name: &Topic,
    messages: Vec<(Topic, Message)>,
    good: usize,
    dead: usize,
) -> (Duration, Duration) {
    let begun = Instant::now();
    let retry =
        |waits: u64| Retry::exponential(Duration::from_millis(waits)..Duration::from_millis(waits)).attempts(ATTEMPTS);
    let seen = Arc::new(Seen::default());
    let router = Router::new().route(name.clone(), handle).retry(retry(20));
    let holding = Router::new()
        .route(held(name), handle)
        .retry(retry(400).hold_max(Duration::from_millis(300)));
    let router = router.merge(holding).with_state(seen.clone());
    let router = router.subscribe(bus.group("group")).await.unwrap();
    for batch in messages.chunks(BATCH) {
        for topic in [name.clone(), held(name)] {
            let of_topic = batch
                .iter()
                .filter(|(of, _)| *of == topic)
                .map(|(_, message)| message.clone());
            bus.publish_to(topic.clone(), of_topic.collect::<Vec<_>>())
                .await
                .unwrap();
        }
    }
    let took = Arc::new(Mutex::new(Duration::ZERO));
    let done = {
        let (bus, seen, name, took) = (bus.clone(), seen.clone(), name.clone(), took.clone());
        async move {
            while seen.good.load(Relaxed) < good {
                seen.news.notified().await;
            }
            *took.lock().unwrap() = begun.elapsed();
            while buried(&bus, &name).await < dead {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    router
        .run(async move { tokio::time::timeout(PATIENCE * 10, done).await.expect("all end") })
        .await
        .unwrap();
    for (kind, n) in Kind::POISON
        .into_iter()
        .flat_map(|kind| (0..dead / Kind::POISON.len()).map(move |n| (kind, n)))
    {
        let attempts = seen.attempts(Work { kind, n });
        let right = match kind {
            Kind::Transient | Kind::Panics => attempts == ATTEMPTS,
            Kind::Undecodable => attempts == 0,
            _ => (1..ATTEMPTS).contains(&attempts),
        };
        assert!(right, "{kind:?} {n} was tried {attempts} times");
    }
    let took = *took.lock().unwrap();
    (took, begun.elapsed())
}

fn held(name: &Topic) -> Topic {
    Topic::from(format!("{name}.held"))
}

async fn buried(bus: &Bus, name: &Topic) -> usize {
    let queues = bus.dead_letter_queues().await.unwrap();
    let ours = queues
        .iter()
        .filter(|queue| queue.topic == *name || queue.topic == held(name));
    ours.map(|queue| queue.count).sum()
}

/// All dead letters of a topic.
async fn letters(bus: &Bus, topic: Topic) -> Vec<DeadLetter> {
    let dead = bus.dead_letters(topic, "group").unwrap();
    let mut all: Vec<DeadLetter> = Vec::new();
    loop {
        let page = dead.list(all.last().map(|letter| letter.position), 256).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn kind(letter: &DeadLetter) -> Kind {
    let work: Result<Work, _> = serde_json::from_slice(&letter.message.payload);
    work.map_or(Kind::Undecodable, |work| work.kind)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_of_each_kind_is_given_up_as_it_should_and_others_go_on() {
    let Some(url) = shared().await else { return };
    let _took = Took::new("poison");
    let of_each = count("SAGAMILL_POISON", 10);
    let good = of_each * GOOD;
    let (bus, pure, mixed) = (connect(&url).await, topic("pure"), topic("poison"));
    let messages = (0..good).map(|n| (pure.clone(), Kind::Good.message(n)));
    let (alone, _) = run(&bus, &pure, messages.collect(), good, 0).await;

    let mut messages = Vec::with_capacity(good + of_each * Kind::POISON.len());
    for n in 0..good {
        if n % GOOD == 0 {
            messages.extend(Kind::POISON.map(|kind| {
                let topic = if kind == Kind::Held {
                    held(&mixed)
                } else {
                    mixed.clone()
                };
                (topic, kind.message(n / GOOD))
            }));
        }
        messages.push((mixed.clone(), Kind::Good.message(n)));
    }
    let (among, all) = run(&bus, &mixed, messages, good, of_each * Kind::POISON.len()).await;
    println!(
        "{good} good ones alone took {alone:?}, among {of_each} of each kind {among:?}; all was over after {all:?}"
    );

    let mut counts: HashMap<Kind, usize> = HashMap::new();
    for letter in letters(&bus, mixed.clone())
        .await
        .into_iter()
        .chain(letters(&bus, held(&mixed)).await)
    {
        let kind = kind(&letter);
        kind.check(&letter);
        *counts.entry(kind).or_default() += 1;
    }
    assert_eq!(counts, Kind::POISON.map(|kind| (kind, of_each)).into());
}

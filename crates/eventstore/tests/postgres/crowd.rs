//! Sixteen writers that sleep, give up, roll back and are killed, by every way into the log, while the server ends
//! connections at random; eight subscribers, of which some are killed too. Each sees what was committed, all of it, in order.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use sagamill_eventstore::{Error, EventStore, Expected, Feed, Recorded, ShardBy, Signal, StreamId};
use sqlx::{Connection, PgConnection, Postgres};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{append, check_dense, everything, log, noted, server::Database};

/// How many events are to be committed at least.
const EVENTS: &str = "SAGAMILL_EVENTS";
/// In the gate.
const EVENTS_FEW: usize = 4_000;
const WRITERS: usize = 16;
/// These keep what they hold; the others of the eight are killed now and then. Of the first, some have several shards.
const STEADY: usize = 6;
const SHARDED: usize = 2;
const KILLED: usize = 2;

/// What the writers know of their events.
#[derive(Default)]
struct Book {
    stored: HashSet<Uuid>,
    /// Rolled back, or never sent.
    refused: HashSet<Uuid>,
    /// Begun, and nobody was told how it ended.
    doubtful: HashSet<Uuid>,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stored,
    Refused,
    Doubtful,
}

struct Desk {
    book: Mutex<Book>,
    wanted: usize,
    killed: AtomicUsize,
}

impl Desk {
    fn has_enough(&self) -> bool {
        self.book.lock().unwrap().stored.len() >= self.wanted
    }
    fn begin(&self, ids: &[Uuid]) {
        self.book.lock().unwrap().doubtful.extend(ids);
    }
    fn end(&self, ids: &[Uuid], end: End) {
        let mut book = self.book.lock().unwrap();
        let to = match end {
            End::Stored => 0,
            End::Refused => 1,
            End::Doubtful => return,
        };
        for id in ids {
            book.doubtful.remove(id);
        }
        if to == 0 {
            book.stored.extend(ids);
        } else {
            book.refused.extend(ids);
        }
    }
}

/// What an error says of the effect.
fn end_of(error: &Error) -> End {
    match error {
        // It promises to be without effect.
        Error::Unavailable { .. } => End::Refused,
        error if error.is_retryable() => End::Doubtful,
        error => panic!("{error:?}"),
    }
}

/// Writes until there is enough; cut off again and again wherever it is, as a process is that dies.
async fn write(store: EventStore<Postgres>, desk: Arc<Desk>, seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    while !desk.has_enough() {
        let life = Duration::from_millis(random.random_range(20..1_000));
        let seed = random.random();
        if timeout(life, write_on_and_on(&store, &desk, seed)).await.is_err() {
            desk.killed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
async fn write_on_and_on(store: &EventStore<Postgres>, desk: &Desk, seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    while !desk.has_enough() {
        let events: Vec<_> = (0..random.random_range(1..6)).map(|_| noted("x")).collect();
        let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
        let stream = format!("s-{}", random.random_range(0..40));
        sleep(Duration::from_micros(random.random_range(0..2_000))).await;
        desk.begin(&ids);
        let end = match random.random_range(0..10) {
            0..4 => stage(store, stream, events, &mut random).await,
            4 => join(store, stream, events).await,
            _ => commit(store, stream, events, random.random_bool(0.5)).await,
        };
        desk.end(&ids, end);
    }
}
async fn commit(
    store: &EventStore<Postgres>,
    stream: String,
    events: Vec<sagamill_eventstore::NewEvent>,
    is_stubborn: bool,
) -> End {
    let next = append(&stream, Expected::Any, events);
    let mut was_doubtful = false;
    loop {
        match store.commit(next.clone()).await {
            Ok(_) => return End::Stored,
            Err(error) => {
                was_doubtful |= end_of(&error) == End::Doubtful;
                if !is_stubborn {
                    return if was_doubtful { End::Doubtful } else { End::Refused };
                }
            }
        }
    }
}
async fn stage(
    store: &EventStore<Postgres>,
    stream: String,
    events: Vec<sagamill_eventstore::NewEvent>,
    random: &mut SmallRng,
) -> End {
    let Ok(mut tx) = store.begin().await else {
        return End::Refused;
    };
    if store.stage_in(&mut tx, stream, events).await.is_err() {
        return End::Refused;
    }
    sleep(Duration::from_micros(random.random_range(0..1_000))).await;
    if random.random_bool(0.3) {
        return End::Refused;
    }
    tx.commit().await.map_or_else(|error| end_of(&error), |()| End::Stored)
}
async fn join(store: &EventStore<Postgres>, stream: String, events: Vec<sagamill_eventstore::NewEvent>) -> End {
    let Ok(mut tx) = store.begin().await else {
        return End::Refused;
    };
    match store.append_in_checked(&mut tx, stream, Expected::Any, events).await {
        Ok(()) => tx.commit().await.map_or_else(|error| end_of(&error), |()| End::Stored),
        Err(_) => End::Refused,
    }
}

/// Ends one connection after the other, whoever has it. Gives how many.
async fn end_connections(url: String, stop: CancellationToken) -> usize {
    const ONE: &str = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1) AS one";
    let mut random = SmallRng::seed_from_u64(7);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let mut ended = 0;
    loop {
        let pause = sleep(Duration::from_millis(random.random_range(50..400)));
        if stop.run_until_cancelled(pause).await.is_none() {
            return ended;
        }
        let one: i64 = sqlx::query_scalar(ONE).fetch_one(&mut connection).await.unwrap();
        ended += one as usize;
    }
}

/// What a subscriber has had, by position.
#[derive(Default)]
struct Had {
    ids: HashMap<i64, Uuid>,
    /// Up to here there is no hole.
    whole: i64,
    last: HashMap<(u16, StreamId), i64>,
    repeats: usize,
    /// It began anew somewhere, and what it had not done comes again.
    began: usize,
}

impl Had {
    fn take(&mut self, shard: u16, event: &Recorded) {
        let position = event.position.0;
        if let Some(known) = self.ids.insert(position, event.id) {
            assert_eq!(known, event.id, "a position holds one event for ever");
            self.repeats += 1;
            return;
        }
        let version = self.last.entry((shard, event.stream.clone())).or_default();
        assert_eq!(
            event.version.0,
            *version + 1,
            "no event of {} is passed over",
            event.stream
        );
        *version += 1;
        while self.ids.contains_key(&(self.whole + 1)) {
            self.whole += 1;
        }
    }
}

/// Follows the log until it has had all up to the end, as soon as that is known. `life`: it is killed so often.
async fn follow(
    store: EventStore,
    name: String,
    shards: u16,
    life: Option<Duration>,
    mut end: watch::Receiver<Option<i64>>,
) -> Had {
    let mut had = Had::default();
    let is_over = |had: &Had, end: Option<i64>| end.is_some_and(|end| had.whole >= end);
    while !is_over(&had, *end.borrow()) {
        let opened = store
            .subscribe(&*name)
            .shards(shards, ShardBy::Stream)
            .lease(Duration::from_secs(3));
        let Ok(mut feed) = opened.open().await else { continue };
        had.began += 1;
        let death = sleep(life.unwrap_or(Duration::MAX));
        let alive = async {
            loop {
                if is_over(&had, *end.borrow()) {
                    return;
                }
                tokio::select! {
                    signal = feed.next() => take(&feed, &mut had, shards, signal.unwrap()),
                    _ = end.changed() => (),
                }
            }
        };
        tokio::select! {
            () = alive => (),
            () = death => continue,
        }
        // What cannot be saved now comes again to the next.
        let _ = feed.close().await;
    }
    had
}
fn take(feed: &Feed, had: &mut Had, shards: u16, signal: Signal) {
    match signal {
        Signal::Event { shard, event } => {
            had.take(shard, &event);
            assert!(
                shards > 1 || had.whole >= event.position.0,
                "it is in order, with no hole before it"
            );
            feed.progress().done(shard, event.position);
        }
        Signal::Lost { .. } => had.began += 1,
        _ => (),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_see_exactly_what_was_committed_whoever_dies() {
    let Some((store, database)) = log().await else { return };
    let wanted = std::env::var(EVENTS).map_or(EVENTS_FEW, |events| events.parse().unwrap());
    println!("{EVENTS}={wanted}");
    let patience = Duration::from_secs(120 + wanted as u64 / 200);
    timeout(patience, play(&store, &database, wanted))
        .await
        .expect("the test hangs");
}

async fn play(store: &EventStore<Postgres>, database: &Database, wanted: usize) {
    let began = Instant::now();
    let desk = Arc::new(Desk {
        book: Mutex::default(),
        wanted,
        killed: AtomicUsize::new(0),
    });
    let open = async || EventStore::connect(&database.url()).await.unwrap();
    let (mut readers, (tell, end)) = (JoinSet::new(), watch::channel(None));
    let reading = [open().await, open().await];
    for n in 0..STEADY + KILLED {
        let shards = if n < SHARDED { 8 } else { 1 };
        let life = (n >= STEADY).then(|| Duration::from_millis(700 + n as u64 * 100));
        let name = format!("subscriber-{n}");
        readers.spawn(follow(reading[n % 2].clone(), name, shards, life, end.clone()));
    }
    let stop = CancellationToken::new();
    let killer = tokio::spawn(end_connections(database.url(), stop.clone()));
    let writing = [open().await.on().unwrap(), open().await.on().unwrap()];
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        writers.spawn(write(writing[n % 2].clone(), desk.clone(), n as u64));
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    stop.cancel();
    let ended = killer.await.unwrap();
    // What was given up may still be on its way; the close waits for it.
    for store in writing {
        store.close().await;
    }
    while store.health().await.unwrap().staged.waiting > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    let written = began.elapsed();
    let events = everything(store).await;
    check_dense(&events);
    tell.send_replace(Some(events.len() as i64));
    audit(&events, &desk);
    let (mut began_anew, mut repeats) = (0, 0);
    while let Some(had) = readers.join_next().await {
        let had = had.unwrap();
        assert_eq!(had.ids.len(), events.len(), "each has had all of it, and nothing else");
        assert!(events.iter().all(|event| had.ids[&event.position.0] == event.id));
        assert!(
            had.repeats == 0 || had.began > 1,
            "who keeps what he holds is told once"
        );
        began_anew += had.began - 1;
        repeats += had.repeats;
    }
    eprintln!(
        "{} events in {written:.1?}, read by all after {:.1?}; {} writers killed, {ended} connections ended, {began_anew} \
         subscribers begun anew with {repeats} repeats",
        events.len(),
        began.elapsed(),
        desk.killed.load(Ordering::Relaxed),
    );
}

fn audit(events: &[Recorded], desk: &Desk) {
    let stored: HashSet<Uuid> = events.iter().map(|event| event.id).collect();
    assert_eq!(stored.len(), events.len(), "nothing is there twice");
    let book = desk.book.lock().unwrap();
    assert!(book.stored.is_subset(&stored), "what was acknowledged is there");
    assert!(book.refused.is_disjoint(&stored), "what was rolled back is not");
    let known = |id: &Uuid| book.stored.contains(id) || book.doubtful.contains(id);
    assert!(stored.iter().all(known), "nothing is there that nobody wrote");
}

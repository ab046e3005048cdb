//! Whoever wants to write to a file gets his turn: told in flushes of the appender that went before him, not in time.
#![cfg(feature = "sqlite")]

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::future::join_all;
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use sagamill_eventstore::{Append, EventStore, Expected, NewEvent};
use sqlx::{Sqlite, sqlite::SqlitePoolOptions};

/// What the log measures once for each flush, when it is over.
const FLUSHES: &str = "sagamill_log_flush_seconds";
/// Users with transactions of their own, and how many each of them has.
const USERS: u64 = 64;
const TRANSACTIONS: u64 = 25;
/// Callers of the appender, so that it always has a flush to do.
const APPENDERS: u64 = 128;
/// So many flushes may go before ninety-nine of a hundred users.
const FLUSHES_MAX: u64 = 20;

/// Counts the flushes of this thread's appender.
#[derive(Default)]
struct Count(Arc<Flushes>);

#[derive(Default)]
struct Flushes(AtomicU64);

impl HistogramFn for Flushes {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Recorder for Count {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match key.name() {
            FLUSHES => Histogram::from_arc(self.0.clone()),
            _ => Histogram::noop(),
        }
    }
}

#[test]
fn a_user_waits_for_few_flushes_however_busy_the_appender_is() {
    let count = Count::default();
    let _counting = metrics::set_default_local_recorder(&count);
    let flushes = || count.0.0.load(Ordering::SeqCst);
    // One thread: the appender's task is in it, and so is the recorder.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (mut waits, all) = runtime.block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}?mode=rwc", directory.path().join("log.db").display());
        let pool = SqlitePoolOptions::new().connect(&url).await.unwrap();
        let store: EventStore<Sqlite> = EventStore::open(pool).await.unwrap();
        sqlx::query("CREATE TABLE effect (user INTEGER NOT NULL, n INTEGER NOT NULL)")
            .execute(store.pool())
            .await
            .unwrap();
        let done = AtomicBool::new(false);
        let appended = Cell::new(0_u64);
        let load = join_all((0..APPENDERS).map(async |n| {
            while !done.load(Ordering::Relaxed) {
                store.commit(noted(format!("load-{n}"))).await.unwrap();
                appended.set(appended.get() + 1);
            }
        }));
        let users = async {
            let waits = join_all((0..USERS).map(async |user| {
                let mut waits = Vec::new();
                for n in 0..TRANSACTIONS {
                    let before = flushes();
                    let mut tx = store.begin().await.unwrap();
                    waits.push(flushes() - before);
                    let effect = sqlx::query("INSERT INTO effect VALUES (?1, ?2)")
                        .bind(user as i64)
                        .bind(n as i64);
                    effect.execute(&mut *tx).await.unwrap();
                    tx.commit().await.unwrap();
                }
                waits
            }));
            let waits = waits.await;
            done.store(true, Ordering::Relaxed);
            waits
        };
        let (waits, _) = tokio::join!(users, load);
        let effects: i64 = sqlx::query_scalar("SELECT count(*) FROM effect")
            .fetch_one(store.pool())
            .await
            .unwrap();
        assert_eq!(effects as u64, USERS * TRANSACTIONS);
        assert_eq!(
            store.head().await.unwrap().position.0 as u64,
            appended.get(),
            "the appender loses nothing over it"
        );
        (waits.concat(), flushes())
    });
    waits.sort_unstable();
    let (median, p99) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
    println!(
        "{} transactions among {all} flushes: median {median}, p99 {p99}, most {:?}",
        waits.len(),
        waits.last()
    );
    // Turns come around: between two turns of one user lies one of the appender, but for the first and the last.
    assert!(all >= TRANSACTIONS / 2, "{all} flushes: the appender was not busy");
    assert!(p99 <= FLUSHES_MAX, "p99 of a user's wait is {p99} flushes");
}

fn noted(stream: String) -> Append {
    Append {
        stream: stream.into(),
        expected: Expected::Any,
        events: vec![NewEvent::new("noted", "1")],
    }
}

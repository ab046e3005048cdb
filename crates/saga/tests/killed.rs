//! `kill -9` between the commit of a local step's effect and the append of what it came to: the step runs again, meets its
//! row, and its effect is there once.
//!
//! The test and its child are one program. The child runs sagas on a file; the parent takes the file's write lock, so that
//! the child can commit and append nothing more, and where effects are there that no event tells of, kills it.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr as _,
    time::Duration,
};

use sagamill_eventstore::EventStore;
use sagamill_saga::prelude::*;
use serde::{Deserialize, Serialize};
use sqlx::{
    Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

/// So many times it is killed.
const KILLS: u32 = 100;
/// Sagas that a child starts; as many run at the same time.
const SAGAS: u32 = 24;
/// How the child is told where its file is, and which sagas are its own: the first of them.
const FILE: &str = "SAGAMILL_KILLED_FILE";
const FIRST: &str = "SAGAMILL_KILLED_FIRST";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Order {
    price: u32,
}

async fn act(tx: &mut Tx<Sqlite>, saga: &SagaContext, act: &str) -> Result<(), sqlx::Error> {
    let insert = sqlx::query("INSERT INTO act (saga, step, act) VALUES ($1, $2, $3)");
    let insert = insert.bind(&saga.key).bind(&saga.step).bind(act);
    insert.execute(&mut **tx).await.map(drop)
}
async fn take(mut tx: Tx<Sqlite>, saga: SagaContext, _: Order) -> Result<Answer<()>, sqlx::Error> {
    act(&mut tx, &saga, "done").await?;
    Ok(Done(()))
}
async fn put_back(mut tx: Tx<Sqlite>, saga: SagaContext, _: ()) -> Result<(), sqlx::Error> {
    act(&mut tx, &saga, "undone").await
}
async fn pay(mut tx: Tx<Sqlite>, saga: SagaContext, order: Order) -> Result<Answer<(), String>, sqlx::Error> {
    if order.price > 1_000 {
        return Ok(Rejected("declined".into()));
    }
    act(&mut tx, &saga, "done").await?;
    Ok(Done(()))
}
fn orders() -> Definition<Order> {
    Saga::define("order")
        .step("take", local(take).undo(put_back))
        .step("hold", local(take).undo(put_back))
        .pivot("pay", local(pay))
        .build()
}
fn is_paid(saga: u32) -> bool {
    saga.is_multiple_of(2)
}

async fn pool(file: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::from_str(&format!("sqlite:{}", file.display())).unwrap();
    let options = options.create_if_missing(true).busy_timeout(Duration::from_secs(60));
    SqlitePoolOptions::new()
        .max_connections(4)
        .connect_with(options)
        .await
        .unwrap()
}

/// The child: brings all sagas to their ends, its own and those of the children before it.
#[tokio::test]
#[ignore = "the child of the test below"]
async fn runs_sagas_until_it_is_killed() {
    let Ok(file) = std::env::var(FILE) else { return };
    let first: u32 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store: EventStore<Sqlite> = EventStore::open(pool(Path::new(&file)).await).await.unwrap();
    let coordinator = Coordinator::new(&store);
    let sagas = coordinator.register(orders()).unwrap();
    tokio::spawn(coordinator.run(std::future::pending()));
    for n in first..first + SAGAS {
        let price = if is_paid(n) { 10 } else { 5_000 };
        sagas.start(n, Order { price }).await.unwrap();
    }
    for n in 0..first + SAGAS {
        // One that was killed before may not have started all of its own.
        if let Ok(saga) = sagas.get(n).await {
            saga.outcome().await.unwrap();
        }
    }
}

fn child(file: &Path, first: u32) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "runs_sagas_until_it_is_killed", "--ignored"]);
    child.env(FILE, file).env(FIRST, first.to_string());
    child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Of the acts after this one, those that no event tells of.
const UNTOLD: &str = "SELECT count(*) FROM act WHERE rowid > $1 AND NOT EXISTS (SELECT 1 FROM es_event
    WHERE stream_id = 'saga-order/' || saga AND CAST(meta AS TEXT) LIKE '%\"ce-sagastep\":\"' || step || '\"%'
    AND (type = 'saga.step-done' AND act = 'done' OR type = 'saga.undo-done' AND act = 'undone'
        OR type = 'saga.completed'))";

/// Waits for a moment at which effects are committed that the log does not tell of, keeps it, and kills. None: the child
/// was done before.
async fn kill_between(pool: &SqlitePool, child: &mut Child, after: i64) -> Option<i64> {
    while child.try_wait().unwrap().is_none() {
        // From here on nobody else commits.
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let untold: i64 = sqlx::query_scalar(UNTOLD)
            .bind(after)
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        if untold > 0 {
            child.kill().unwrap();
            child.wait().unwrap();
            tx.rollback().await.unwrap();
            return Some(untold);
        }
        tx.rollback().await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_the_effect_and_its_event_a_hundred_times_each_effect_is_there_once() {
    let directory = tempfile::tempdir().unwrap();
    let file: PathBuf = directory.path().join("sagas.db");
    let pool = pool(&file).await;
    // The tables are there before the first child comes.
    EventStore::<Sqlite>::open(pool.clone()).await.unwrap().close().await;
    sqlx::query("CREATE TABLE act (saga TEXT NOT NULL, step TEXT NOT NULL, act TEXT NOT NULL)")
        .execute(&pool)
        .await
        .unwrap();
    let (mut kills, mut between, mut first) = (0, 0, 0);
    while kills < KILLS {
        let last: Option<i64> = sqlx::query_scalar("SELECT max(rowid) FROM act")
            .fetch_one(&pool)
            .await
            .unwrap();
        let mut child = child(&file, first);
        first += SAGAS;
        if let Some(untold) = kill_between(&pool, &mut child, last.unwrap_or(0)).await {
            kills += 1;
            between += untold;
        }
    }
    let mut last = child(&file, first);
    assert!(last.wait().unwrap().success(), "the last one ends all");
    let rows: Vec<(String, String, String)> = sqlx::query_as("SELECT saga, step, act FROM act ORDER BY rowid")
        .fetch_all(&pool)
        .await
        .unwrap();
    let mut acts: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (saga, step, act) in rows {
        acts.entry(saga.parse().unwrap())
            .or_default()
            .push(format!("{step} {act}"));
    }
    let started: i64 = sqlx::query_scalar("SELECT count(*) FROM es_event WHERE type = 'saga.started'")
        .fetch_one(&pool)
        .await
        .unwrap();
    println!("{kills} kills, {between} effects that no event told of, {started} sagas");
    assert_eq!(acts.len() as i64, started);
    for (saga, acts) in acts {
        let expected = if is_paid(saga) {
            vec!["take done", "hold done", "pay done"]
        } else {
            vec!["take done", "hold done", "hold undone", "take undone"]
        };
        assert_eq!(acts, expected, "saga {saga}");
    }
}

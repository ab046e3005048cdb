//! What the log says of itself, and of the time.

use std::time::Duration;

use jiff::Timestamp;
use sagamill_eventstore::{EventStore, Expected, Position};
use sqlx::{Connection, PgConnection};

use super::{append, execute, log, noted};

/// What its clock is held against.
async fn database_clock(connection: &mut PgConnection) -> Timestamp {
    let micros = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let micros: i64 = sqlx::query_scalar(micros).fetch_one(connection).await.unwrap();
    Timestamp::from_microsecond(micros).unwrap()
}

#[tokio::test]
async fn the_logs_clock_is_the_databases_and_never_ahead_of_it() {
    let Some((store, database)) = log().await else { return };
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    for n in 0..200 {
        let before = store.now();
        let database = database_clock(&mut connection).await;
        assert!(before <= database, "{before} is ahead of {database}");
        if n % 20 == 0 {
            store.commit(append("a", Expected::Any, [noted("x")])).await.unwrap();
        }
    }
    for wait in [0, 1, 5, 20] {
        let due = store.now() + Duration::from_millis(wait);
        store.sleep_until(due).await;
        let woken = database_clock(&mut connection).await;
        assert!(due <= woken, "woken at {woken}, due at {due}");
    }
}

#[tokio::test]
async fn health_names_what_waits_and_who_holds_it_up() {
    let Some((store, database)) = log().await else { return };
    let health = store.health().await.unwrap();
    assert_eq!((health.database, health.revision), ("postgres", 1));
    assert!(health.lock.is_none() && health.staged.oldest.is_none());
    assert!(health.settings.iter().any(|setting| setting.name == "fsync"));
    store.commit(append("a", Expected::Any, [noted("x")])).await.unwrap();
    let feed = store.subscribe("idle").open().await.unwrap();
    drop(feed);
    store
        .commit(append("a", Expected::Any, [noted("x"), noted("y")]))
        .await
        .unwrap();
    let mut holder = PgConnection::connect(&database.url()).await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut holder)
        .await
        .unwrap();
    let mut held = holder.begin().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(x'65730001'::bigint << 32 | 'es.event'::regclass::oid::bigint)";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    let staged = "INSERT INTO es.staged (event_id, append_id, stream_id, type, payload) SELECT u, u, 'b', 'x', '' FROM gen_random_uuid() AS u";
    execute(&store, staged).await;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.commit(append("a", Expected::Any, [noted("z")])).await }
    });
    let health = loop {
        let health = store.health().await.unwrap();
        if health.lock.as_ref().is_some_and(|lock| lock.waiting > 0) {
            break health;
        }
    };
    let lock = health.lock.unwrap();
    assert_eq!((lock.pid, lock.state.as_str()), (pid, "idle in transaction"));
    assert!(lock.since.is_some());
    assert_eq!((health.staged.waiting, health.staged.failed), (1, 0));
    assert!(
        health
            .staged
            .oldest
            .is_some_and(|oldest| oldest <= store.now() + Duration::from_secs(1))
    );
    assert_eq!(health.head.position, Position(3));
    assert_eq!(
        (health.subscriptions[0].name.as_str(), health.subscriptions[0].shards),
        ("idle", 1)
    );
    assert!(health.subscriptions[0].positions >= 2);
    held.rollback().await.unwrap();
    waiting.await.unwrap().unwrap();
}

/// By NOTIFY, or by looking: also while nobody can listen.
#[tokio::test]
async fn another_process_is_heard_whoever_listens() {
    let Some((store, database)) = log().await else { return };
    let other = EventStore::connect(&database.url()).await.unwrap();
    let mut killer = PgConnection::connect(&database.url()).await.unwrap();
    let deaf = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    for n in 0..6 {
        let waiting = tokio::spawn({
            let store = store.clone();
            async move {
                while store.head().await.unwrap().position <= Position(n) {
                    store.wait_for(Position(n)).await;
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        if n % 2 == 0 {
            sqlx::query(deaf).execute(&mut killer).await.unwrap();
        }
        other.commit(append("a", Expected::Any, [noted("x")])).await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .unwrap()
            .unwrap();
    }
}

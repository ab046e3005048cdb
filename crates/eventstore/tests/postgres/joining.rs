//! Joins whose conflicts come at COMMIT, and transactions that have failed.

use std::time::Duration;

use futures_util::future::join_all;
use sagamill_eventstore::{Error, EventStore, Expected, NewEvent, Transaction, Version};
use sqlx::{Connection, Executor, PgConnection, Postgres};

use super::{append, check_dense, everything, execute, log, noted, number};

async fn effect(tx: &mut Transaction<Postgres>) {
    tx.execute("INSERT INTO effect VALUES (1)").await.unwrap();
}

/// Both find the stream as expected; the second one hears at its commit that it is not, and its effect is gone.
#[tokio::test]
async fn of_two_joins_that_meet_one_fails_at_its_commit_with_its_effect() {
    let Some((store, _database)) = log().await else { return };
    execute(&store, "CREATE TABLE effect (n int)").await;
    store
        .commit(append("a", Expected::NoStream, [noted("0")]))
        .await
        .unwrap();
    for (expected, actual) in [(Expected::Exact(Version(1)), 2), (Expected::Exact(Version(2)), 3)] {
        let (mut one, mut two) = (store.begin().await.unwrap(), store.begin().await.unwrap());
        for tx in [&mut one, &mut two] {
            effect(tx).await;
            store.append_in_checked(tx, "a", expected, [noted("1")]).await.unwrap();
        }
        two.commit().await.unwrap();
        let conflict = one.commit().await;
        let Err(Error::Conflict {
            stream,
            expected: was,
            actual: is,
        }) = conflict
        else {
            panic!("{conflict:?}")
        };
        assert_eq!((stream.as_str(), was, is), ("a", expected, Version(actual)));
    }
    let (mut one, mut two) = (store.begin().await.unwrap(), store.begin().await.unwrap());
    for tx in [&mut one, &mut two] {
        let new = store.append_in_checked(tx, "b", Expected::NoStream, [noted("1")]);
        new.await.unwrap();
    }
    one.commit().await.unwrap();
    let conflict = two.commit().await;
    assert!(
        matches!(
            conflict,
            Err(Error::Conflict {
                expected: Expected::NoStream,
                ..
            })
        ),
        "{conflict:?}"
    );
    assert_eq!(number(&store, "SELECT count(*) FROM effect").await, 2);
    let events = everything(&store).await;
    check_dense(&events);
    assert_eq!(events.len(), 4);
}

/// The same events in two transactions: the effect of the first is there, and so the second's must not be.
#[tokio::test]
async fn events_that_somebody_else_has_joined_meanwhile_are_told_at_the_commit() {
    let Some((store, _database)) = log().await else { return };
    execute(&store, "CREATE TABLE effect (n int)").await;
    let events: [NewEvent; 2] = [noted("1"), noted("2")];
    let more = [noted("0"), events[1].clone()];
    for later in [events.clone(), more] {
        let (mut one, mut two) = (store.begin().await.unwrap(), store.begin().await.unwrap());
        let known = store.head().await.unwrap().position.0 > 0;
        effect(&mut two).await;
        let joined = store.append_in_checked(&mut two, "a", Expected::Any, later).await;
        if known {
            assert!(
                matches!(joined, Err(Error::Repeated(id)) if id == events[1].id),
                "{joined:?}"
            );
            continue;
        }
        joined.unwrap();
        effect(&mut one).await;
        store
            .append_in_checked(&mut one, "a", Expected::Any, events.clone())
            .await
            .unwrap();
        one.commit().await.unwrap();
        let repeated = two.commit().await;
        assert!(matches!(repeated, Err(Error::Repeated(_))), "{repeated:?}");
    }
    assert_eq!(number(&store, "SELECT count(*) FROM effect").await, 1);
    assert_eq!(everything(&store).await.len(), 2);
    assert_eq!(number(&store, "SELECT count(*) FROM es.joined").await, 0);
}

/// PostgreSQL takes the COMMIT of a transaction that has failed for a ROLLBACK, and says that all is well.
#[tokio::test]
async fn a_transaction_that_has_failed_is_not_taken_for_committed() {
    let Some((store, _database)) = log().await else { return };
    execute(&store, "CREATE TABLE effect (n int PRIMARY KEY)").await;
    let mut tx = store.begin().await.unwrap();
    store.stage_in(&mut tx, "a", [noted("1")]).await.unwrap();
    effect(&mut tx).await;
    // A caller that does not look.
    let _ = tx.execute("INSERT INTO effect VALUES (1)").await;
    let committed = tx.commit().await;
    assert!(matches!(committed, Err(Error::Database(_))), "{committed:?}");
    assert_eq!(number(&store, "SELECT count(*) FROM effect").await, 0);
    let mut tx = store.begin().await.unwrap();
    effect(&mut tx).await;
    tx.commit().await.unwrap();
    assert_eq!(number(&store, "SELECT count(*) FROM effect").await, 1);
    assert!(everything(&store).await.is_empty());
}

/// An append looks at what was committed while it waited.
#[tokio::test]
async fn a_join_needs_read_committed_and_staging_does_not() {
    let Some((store, database)) = log().await else { return };
    let begin = async || {
        store
            .pool()
            .begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE")
            .await
            .unwrap()
    };
    let mut tx = begin().await;
    store.stage_in(&mut tx, "a", [noted("1")]).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = begin().await;
    let refused = store.append_in_checked(&mut tx, "a", Expected::Any, [noted("2")]).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    drop(tx);
    store.ring();
    assert_eq!(everything(&store).await.len(), 1);
    // A role whose transactions are so by default appends all the same: the store's own connections are not.
    let name = database.name();
    execute(
        &store,
        &format!("ALTER DATABASE {name} SET default_transaction_isolation = serializable"),
    )
    .await;
    let strict = EventStore::connect(&database.url())
        .await
        .unwrap()
        .on::<Postgres>()
        .unwrap();
    strict
        .commit(append("b", Expected::NoStream, [noted("3")]))
        .await
        .unwrap();
    let mut tx = strict.begin().await.unwrap();
    strict
        .append_in_checked(&mut tx, "b", Expected::Exists, [noted("4")])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    strict.close().await;
}

/// Rows and the log, in both orders, by many at once: nobody waits in a circle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_and_row_locks_in_any_order_do_not_deadlock() {
    let Some((store, _database)) = log().await else { return };
    execute(&store, "CREATE TABLE account (id int PRIMARY KEY, n int NOT NULL); INSERT INTO account SELECT n, 0 FROM generate_series(0, 3) AS n").await;
    let work = (0..8).map(|worker| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..10 {
                let mut tx = store.begin().await.unwrap();
                let stream = format!("w-{worker}");
                let row = sqlx::query("UPDATE account SET n = n + 1 WHERE id = $1").bind(round % 4);
                if worker % 2 == 0 {
                    row.execute(&mut *tx).await.unwrap();
                }
                store
                    .append_in_checked(&mut tx, stream.as_str(), Expected::Any, [noted("x")])
                    .await
                    .unwrap();
                if worker % 2 == 1 {
                    let row = sqlx::query("UPDATE account SET n = n + 1 WHERE id = $1").bind(round % 4);
                    row.execute(&mut *tx).await.unwrap();
                }
                tx.commit().await.unwrap();
            }
        })
    });
    let beside = (0..4).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..25 {
                store
                    .commit(append(&format!("d-{n}"), Expected::Any, [noted("x")]))
                    .await
                    .unwrap();
            }
        })
    });
    for done in join_all(work.chain(beside)).await {
        done.unwrap();
    }
    let events = everything(&store).await;
    check_dense(&events);
    assert_eq!(
        (events.len(), number(&store, "SELECT sum(n) FROM account").await),
        (180, 80)
    );
}

/// Whoever stops waiting for a transaction leaves none behind: what is executed on a connection of the pool afterwards is
/// there at once, for everybody.
#[tokio::test]
async fn a_begin_that_is_given_up_leaves_no_transaction_open() {
    let Some((store, database)) = log().await else { return };
    sqlx::query("CREATE TABLE written (n int NOT NULL)")
        .execute(store.pool())
        .await
        .unwrap();
    let (mut given_up, mut seen) = (0, PgConnection::connect(&database.url()).await.unwrap());
    for n in 0..300 {
        // From before it is sent to after it is answered.
        let mut begin = Box::pin(store.begin());
        let polls = n % 6;
        for _ in 0..polls {
            if let std::task::Poll::Ready(begun) = futures_util::poll!(&mut begin) {
                drop(begun.unwrap());
                break;
            }
            tokio::time::sleep(Duration::from_micros(50 * n)).await;
            given_up += 1;
        }
        drop(begin);
        sqlx::query("INSERT INTO written VALUES ($1)")
            .bind(i32::try_from(n).unwrap())
            .execute(store.pool())
            .await
            .unwrap();
        let there: i64 = sqlx::query_scalar("SELECT count(*) FROM written")
            .fetch_one(&mut seen)
            .await
            .unwrap();
        assert_eq!(
            there,
            i64::try_from(n).unwrap() + 1,
            "a write was acknowledged and is not there"
        );
    }
    assert!(given_up > 0);
}

/// A process that is frozen, or on a machine that is gone, has what it has locked for no longer than that.
#[tokio::test]
async fn a_transaction_that_stands_still_is_ended_by_the_server() {
    let Some((store, _database)) = log().await else { return };
    let limit = "SHOW idle_in_transaction_session_timeout";
    let mut tx = store.begin().await.unwrap();
    let within: String = sqlx::query_scalar(limit).fetch_one(&mut *tx).await.unwrap();
    assert_eq!(within, "30s");
    tx.commit().await.unwrap();
    let outside: String = sqlx::query_scalar(limit).fetch_one(store.pool()).await.unwrap();
    assert_eq!(outside, "0", "the pool's connections are the caller's");

    let mut tx = store.begin().await.unwrap();
    tx.execute("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let error = store.stage_in(&mut tx, "a", [noted("0")]).await.unwrap_err();
    let Error::Unavailable { what } = &error else {
        panic!("{error:?}")
    };
    assert!(what.contains("nothing was asked for 30 s"), "{what}");
}

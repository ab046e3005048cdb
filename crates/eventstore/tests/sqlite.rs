//! What only a file can be asked: to be opened, to survive, to be shared.

use std::{path::Path, time::Duration};

use sagamill_eventstore::{
    Append, Dialect, Error, EventStore, Expected, InTransaction, NewEvent, Position, Signal, Version, migrations,
};
use sqlx::{Connection, Sqlite, SqlitePool, sqlite::SqlitePoolOptions};

fn noted(stream: &str) -> Append {
    Append {
        stream: stream.into(),
        expected: Expected::Any,
        events: vec![NewEvent::new("noted", "1")],
    }
}

fn url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

async fn pool(path: &Path, connections: u32) -> SqlitePool {
    let options = SqlitePoolOptions::new().max_connections(connections);
    options
        .connect(&format!("{}?mode=rwc", url(path)))
        .await
        .expect("a file that can be opened")
}

#[tokio::test]
async fn what_cannot_hold_a_log_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| url(&directory.path().join(name));
    for bad in [
        "sqlite::memory:",
        "sqlite:",
        "sqlite:x.db?mode=memory",
        "sqlite:x.db?mode=ro",
        "sqlite:x.db?mode=nonsense",
    ] {
        let refused = EventStore::connect(bad).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{bad}: {refused:?}");
    }
    std::fs::write(
        directory.path().join("text.db"),
        "this is no database, however long it may go on being none",
    )
    .unwrap();
    for bad in [at("text.db"), at("no/such/directory.db"), url(directory.path())] {
        let refused = EventStore::connect(&bad).await;
        assert!(matches!(refused, Err(Error::Unusable { .. })), "{bad}: {refused:?}");
    }
    assert!(matches!(
        EventStore::connect("mysql://x").await,
        Err(Error::UnknownScheme { .. })
    ));
    let memory = SqlitePool::connect("sqlite::memory:").await.unwrap();
    assert!(matches!(
        EventStore::<Sqlite>::open(memory).await,
        Err(Error::Invalid { .. })
    ));
}

#[tokio::test]
async fn tables_of_a_newer_build_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let store = EventStore::connect(&url(&path)).await.unwrap().on::<Sqlite>().unwrap();
    sqlx::query("UPDATE es_log_meta SET schema_rev = 99")
        .execute(store.pool())
        .await
        .unwrap();
    store.close().await;
    assert!(matches!(EventStore::connect(&url(&path)).await, Err(Error::Unusable { what }) if what.contains("99")));
}

#[tokio::test]
async fn the_steps_that_are_shown_are_those_that_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let shown = pool(&directory.path().join("shown.db"), 1).await;
    for step in migrations(Dialect::Sqlite) {
        sqlx::raw_sql(step.sql).execute(&shown).await.unwrap();
    }
    let taken = EventStore::connect(&url(&directory.path().join("taken.db")))
        .await
        .unwrap()
        .on::<Sqlite>()
        .unwrap();
    let tables = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
    let of = async |pool: &SqlitePool| sqlx::query_scalar::<_, String>(tables).fetch_all(pool).await.unwrap();
    assert_eq!(of(&shown).await, of(taken.pool()).await);
    // Run by hand they have made a log, and nothing is left to be done.
    let by_hand: EventStore<Sqlite> = EventStore::open(shown).await.unwrap();
    assert_ne!(by_hand.log_id(), taken.log_id());
    by_hand.commit(noted("a")).await.unwrap();
}

#[tokio::test]
async fn a_log_survives_its_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let store = EventStore::connect(&url(&path)).await.unwrap();
    let id = store.log_id();
    store.commit(noted("a")).await.unwrap();
    let head = store.head().await.unwrap();
    store.close().await;
    let store = EventStore::<Sqlite>::open(pool(&path, 2).await).await.unwrap();
    assert_eq!((store.log_id(), store.head().await.unwrap()), (id, head));
    let receipt = store.commit(noted("a")).await.unwrap()[0];
    assert_eq!((receipt.first, receipt.version), (Position(2), Version(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_file_opened_by_many_at_once_is_one_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let opening = (0..8).map(|n| {
        let path = path.clone();
        tokio::spawn(async move {
            let store = EventStore::connect(&url(&path)).await.unwrap();
            store.commit(noted(&format!("s-{n}"))).await.unwrap();
            store
        })
    });
    let stores = futures_util::future::join_all(opening).await;
    let ids: std::collections::HashSet<_> = stores.iter().map(|store| store.as_ref().unwrap().log_id()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(stores[0].as_ref().unwrap().head().await.unwrap().position, Position(8));
}

#[tokio::test]
async fn a_commit_that_nobody_rang_for_is_heard() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let pool = pool(&path, 2).await;
    let store = EventStore::<Sqlite>::open(pool.clone()).await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move {
            while store.head().await.unwrap().position < Position(1) {
                store.wait_for(Position(0)).await;
            }
        }
    });
    tokio::task::yield_now().await;
    let mut tx = pool.begin().await.unwrap();
    store
        .stage_in(&mut tx, "a", [NewEvent::new("noted", "1")])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_transaction_that_is_dropped_leaves_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let store = EventStore::connect(&url(&directory.path().join("log.db")))
        .await
        .unwrap();
    let sqlite = store.on::<Sqlite>().unwrap();
    let mut tx = sqlite.begin().await.unwrap();
    sqlite
        .stage_in(&mut tx, "a", [NewEvent::new("never", "1")])
        .await
        .unwrap();
    let appending = tokio::spawn({
        let store = store.clone();
        async move { store.commit(noted("a")).await.unwrap() }
    });
    tokio::task::yield_now().await;
    assert!(!appending.is_finished());
    drop(tx);
    let receipts = tokio::time::timeout(Duration::from_secs(60), appending)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(receipts[0].first, Position(1));
}

#[tokio::test]
async fn nothing_joins_a_closed_stream() {
    let directory = tempfile::tempdir().unwrap();
    let pool = pool(&directory.path().join("log.db"), 2).await;
    let store = EventStore::<Sqlite>::open(pool.clone()).await.unwrap();
    sqlx::query("INSERT INTO es_stream (stream_id, state) VALUES ('a', 2)")
        .execute(&pool)
        .await
        .unwrap();
    for count in [1, 2, 100] {
        let events = || (0..count).map(|_| NewEvent::new("noted", "1"));
        let mut tx = store.begin().await.unwrap();
        let staged = store.stage_in(&mut tx, "a", events()).await;
        assert!(matches!(staged, Err(Error::Closed(_))), "{count}: {staged:?}");
        let checked = store.append_in_checked(&mut tx, "a", Expected::Any, events()).await;
        assert!(matches!(checked, Err(Error::Closed(_))), "{count}: {checked:?}");
        tx.commit().await.unwrap();
    }
    assert_eq!(store.head().await.unwrap().position, Position(0));
}

#[tokio::test]
async fn transactions_of_a_store_leave_the_pool_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let pool = pool(&directory.path().join("log.db"), 1).await;
    let store = EventStore::<Sqlite>::open(pool.clone()).await.unwrap();
    for _ in 0..3 {
        let mut tx = store.begin().await.unwrap();
        store
            .stage_in(&mut tx, "a", [NewEvent::new("noted", "1")])
            .await
            .unwrap();
        let other = tokio::time::timeout(Duration::from_secs(20), pool.acquire()).await;
        assert!(other.unwrap().is_ok(), "the pool's only connection is free");
        tx.commit().await.unwrap();
    }
    assert_eq!(store.head().await.unwrap().position, Position(3));
    pool.close().await;
    assert!(store.begin().await.is_err(), "a store on a closed pool begins nothing");
}

#[tokio::test]
async fn a_transaction_that_was_given_up_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let pool = pool(&directory.path().join("log.db"), 2).await;
    let store = EventStore::<Sqlite>::open(pool.clone()).await.unwrap();
    let stage = async |store: &EventStore<Sqlite>| {
        let mut tx = store.begin().await.unwrap();
        store
            .stage_in(&mut tx, "a", [NewEvent::new("noted", "1")])
            .await
            .unwrap();
        tx
    };
    let mut stored = 0;
    for micros in 0..400 {
        // Given up while it begins, while it is written, while it commits, or not at all.
        let whole = async { stage(&store).await.commit().await };
        let given_up = tokio::time::timeout(Duration::from_micros(5 * micros), whole).await;
        stage(&store).await.commit().await.unwrap();
        let head = store.head().await.unwrap().position.0;
        let grown = head - stored;
        assert!(
            grown == 2 || grown == 1 && given_up.is_err(),
            "{grown} events of two transactions"
        );
        stored = head;
    }
}

#[tokio::test]
async fn who_waits_for_a_connection_does_not_hold_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let pool = pool(&directory.path().join("log.db"), 1).await;
    let store = EventStore::<Sqlite>::open(pool.clone()).await.unwrap();
    let held = pool.acquire().await.unwrap();
    let beginning = tokio::spawn({
        let store = store.clone();
        async move { store.begin().await.unwrap().rollback().await.unwrap() }
    });
    tokio::task::yield_now().await;
    let appended = tokio::time::timeout(Duration::from_secs(20), store.commit(noted("a"))).await;
    assert!(appended.unwrap().is_ok());
    drop(held);
    beginning.await.unwrap();
}

/// All ways into the log, by turns: appends of two stores, transactions of a store and of its pool, with events that are
/// taken back before the commit.
async fn write_in_all_ways(stores: [&EventStore<Sqlite>; 2], n: usize) -> Result<(), Box<dyn std::error::Error>> {
    let note = |what: &str| NewEvent::new(what, n.to_string());
    let store = stores[n % 2];
    match n % 7 {
        0 | 1 => drop(store.commit(noted("a")).await?),
        2 => {
            let mut tx = store.begin().await?;
            store.stage_in(&mut tx, "s", [note("one"), note("two")]).await?;
            store.stage_in(&mut tx, "t", [note("three")]).await?;
            tx.commit().await?;
        }
        3 => {
            let mut tx = store.begin().await?;
            sqlx::query("SAVEPOINT here").execute(&mut *tx).await?;
            store.stage_in(&mut tx, "s", [note("never")]).await?;
            sqlx::query("ROLLBACK TO here").execute(&mut *tx).await?;
            if n.is_multiple_of(3) {
                // As a barrier says after a statement of its own.
                InTransaction::<Sqlite>::is_well(&mut tx);
            }
            if n.is_multiple_of(2) {
                store.stage_in(&mut tx, "s", [note("after")]).await?;
            }
            tx.commit().await?;
        }
        4 => {
            let mut tx = store.begin().await?;
            let mut nested = tx.begin().await?;
            store.stage_in(&mut nested, "s", [note("nested")]).await?;
            if n.is_multiple_of(2) {
                nested.commit().await?;
            } else {
                nested.rollback().await?;
            }
            tx.commit().await?;
        }
        5 => {
            let mut tx = store.pool().begin_with("BEGIN IMMEDIATE").await?;
            store.stage_in(&mut tx, "s", [note("of the pool")]).await?;
            tx.commit().await?;
        }
        _ => {
            let mut tx = store.begin().await?;
            store.stage_in(&mut tx, "s", [note("never")]).await?;
            if n.is_multiple_of(2) {
                tx.rollback().await?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn those_who_follow_see_what_was_committed_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let pool = pool(&directory.path().join("log.db"), 4).await;
    let store = EventStore::<Sqlite>::open(pool.clone()).await.unwrap();
    let other = EventStore::<Sqlite>::open(pool.clone()).await.unwrap();
    let mut feed = store.subscribe("all").open().await.unwrap();
    let mut seen = Vec::new();
    for n in 0..210 {
        write_in_all_ways([&store, &other], n).await.unwrap();
        if n % 3 > 0 {
            continue;
        }
        let head = store.head().await.unwrap().position;
        while seen.last().is_none_or(|(position, _)| *position < head) {
            let next = tokio::time::timeout(Duration::from_secs(30), feed.next()).await;
            if let Signal::Event { event, .. } = next.expect("the log goes on").unwrap() {
                feed.progress().done(0, event.position);
                seen.push((event.position, event));
            }
        }
    }
    let mut read = store.read_all();
    for (position, event) in seen {
        assert_eq!(read.next().await.unwrap().unwrap(), event, "at {position}");
        assert_ne!(event.name, "never");
    }
}

/// A store that has taken the only shard of a subscription and is gone without giving it back, as after a kill.
async fn leave_a_lease_behind(path: &Path) {
    let store = EventStore::connect(&url(path)).await.expect("the log works");
    let mut feed = store
        .subscribe("work")
        .lease(Duration::from_mins(5))
        .open()
        .await
        .expect("the log works");
    assert!(matches!(
        feed.next().await.expect("the log works"),
        Signal::Gained { .. }
    ));
    drop(feed);
}

#[tokio::test]
async fn leases_of_the_dead_are_free_at_once_where_nobody_else_lives() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    leave_a_lease_behind(&path).await;
    let took = tokio::time::timeout(Duration::from_secs(60), async {
        // The tasks of the dead store end by themselves; until then somebody is there.
        let store = loop {
            let store = EventStore::connect(&url(&path)).await.unwrap();
            if store.alone_since().is_some() {
                break store;
            }
            drop(store);
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let mut feed = store.subscribe("work").open().await.unwrap();
        assert!(matches!(feed.next().await.unwrap(), Signal::Gained { .. }));
    });
    took.await.expect("the lease of five minutes is not waited for");
}

#[tokio::test]
async fn leases_stand_where_somebody_lives() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let _witness = EventStore::connect(&url(&path)).await.unwrap();
    leave_a_lease_behind(&path).await;
    let store = EventStore::connect(&url(&path)).await.unwrap();
    assert_eq!(store.alone_since(), None);
    let held = store.checkpoints().await.unwrap();
    assert!(held.iter().all(|checkpoint| checkpoint.owner.is_some()), "{held:?}");
}

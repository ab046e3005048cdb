//! A pooler between the store and the server.

use std::time::Duration;

use futures_util::future::join_all;
use sagamill_eventstore::{Error, EventStore, Expected, Position, Signal, Version};
use sqlx::Postgres;

use super::{
    append, check_dense, everything, noted,
    server::{Database, pooler::Pooler},
};

async fn pooled_by(store: &EventStore<Postgres>) -> String {
    let health = store.health().await.unwrap();
    let pooler = health.settings.into_iter().find(|setting| setting.name == "pooler");
    pooler.unwrap().value
}

/// Many callers, transactions and a feed on several stores: more at once than the pooler has server connections for each.
async fn work(url: &str) {
    let stores = [
        EventStore::connect(url).await.unwrap(),
        EventStore::connect(url).await.unwrap(),
    ];
    let mut feed = stores[0].subscribe("through").open().await.unwrap();
    let work = (0..24).map(async |n: usize| {
        let store = stores[n % 2].on::<Postgres>().unwrap();
        let stream = format!("s-{n}");
        for version in 0..5 {
            let expected = Expected::Exact(Version(version * 3));
            store.commit(append(&stream, expected, [noted("x")])).await.unwrap();
            let mut tx = store.begin().await.unwrap();
            store.stage_in(&mut tx, stream.as_str(), [noted("y")]).await.unwrap();
            tx.commit().await.unwrap();
            // What was staged is sequenced: a read of the head waits for that. Not in the transaction: who holds one of the
            // pooler's connections must not wait for another.
            store.head().await.unwrap();
            let mut tx = store.begin().await.unwrap();
            let expected = Expected::Exact(Version(version * 3 + 2));
            store
                .append_in_checked(&mut tx, stream.as_str(), expected, [noted("z")])
                .await
                .unwrap();
            tx.commit().await.unwrap();
        }
    });
    join_all(work).await;
    let progress = feed.progress();
    let mut seen = 0;
    while seen < 24 * 15 {
        if let Signal::Event { shard, event } = feed.next().await.unwrap() {
            seen += 1;
            assert_eq!(event.position, Position(seen));
            progress.done(shard, event.position);
        }
    }
    feed.close().await.unwrap();
    check_dense(&everything(&stores[1]).await);
    for store in stores {
        store.close().await;
    }
}

/// Where each transaction gets another server connection, a log works if prepared statements are kept over that, and is
/// refused if they are not. Nobody listens through it: other processes are heard all the same, by looking.
#[tokio::test]
async fn a_pooler_by_transaction_is_worked_through_or_refused_by_name() {
    let Some(database) = Database::make() else { return };
    let Some(pooler) = Pooler::before(&database, "transaction") else {
        return;
    };
    let opened = EventStore::connect(pooler.url()).await;
    if !pooler.keeps_statements() {
        assert!(
            matches!(&opened, Err(Error::Unusable { what }) if what.contains("max_prepared_statements")),
            "{opened:?}"
        );
        return;
    }
    let store = opened.unwrap().on::<Postgres>().unwrap();
    assert_eq!(pooled_by(&store).await, "transaction");
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.wait_for(store.head().await.unwrap().position).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    work(pooler.url()).await;
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap()
        .unwrap();
    store.close().await;
    // Nothing was set on connections that belong to everybody, and nobody listens on one.
    let direct = EventStore::connect(&database.url())
        .await
        .unwrap()
        .on::<Postgres>()
        .unwrap();
    assert_eq!(pooled_by(&direct).await, "none");
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    assert_eq!(super::number(&direct, listening).await, 0);
}

/// One that gives each client its own server connection is as good as none.
#[tokio::test]
async fn a_pooler_by_session_is_as_good_as_none() {
    let Some(database) = Database::make() else { return };
    let Some(pooler) = Pooler::before(&database, "session") else {
        return;
    };
    let store = EventStore::connect(pooler.url())
        .await
        .unwrap()
        .on::<Postgres>()
        .unwrap();
    assert_eq!(pooled_by(&store).await, "none");
    work(pooler.url()).await;
    store.close().await;
}

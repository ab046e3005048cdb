//! Who dies is known to be gone, and nobody waits for his leases; who lives keeps them.

use std::time::Duration;

use sagamill_eventstore::{EventStore, Expected, Feed, ShardBy, Signal};
use sagamill_testkit::Proxy;
use uuid::Uuid;

use super::{append, log, noted, server::Database};

const SHARDS: u16 = 8;
/// Far longer than any of these tests.
const LEASE: Duration = Duration::from_secs(250);

async fn open(store: &EventStore) -> Feed {
    let subscription = store.subscribe("s").shards(SHARDS, ShardBy::Stream);
    subscription.lease(LEASE).open().await.unwrap()
}

/// Until an event of each of so many streams has come.
async fn hear(feed: &mut Feed, events: usize) {
    let mut heard = 0;
    while heard < events {
        if let Signal::Event { shard, event } = feed.next().await.unwrap() {
            feed.progress().done(shard, event.position);
            heard += 1;
        }
    }
}

#[tokio::test]
async fn the_leases_of_the_dead_are_not_waited_for() {
    let Some(database) = Database::make() else { return };
    let proxy = Proxy::start(&database.url()).await.unwrap();
    let dead = EventStore::connect(&proxy.url()).await.unwrap();
    let heir = EventStore::connect(&database.url()).await.unwrap();
    let of_dead = open(&dead).await;
    let owner = dead.new_owner();
    assert!(!heir.is_gone(owner).await.unwrap());
    for n in 0..20 {
        heir.commit(append(&format!("s-{n}"), Expected::NoStream, [noted("x")]))
            .await
            .unwrap();
    }
    // As its end would: the server sees its connections close, and no new one comes.
    proxy.cut();
    let mut of_heir = open(&heir).await;
    hear(&mut of_heir, 20).await;
    until_gone(&heir, owner).await;
    drop(of_dead);
}

#[tokio::test]
async fn nobody_is_gone_who_has_one_session_left() {
    let Some((store, database)) = log().await else { return };
    let other = EventStore::connect(&database.url()).await.unwrap();
    // A server that has just begun gives everybody the time to come back, and calls nobody gone.
    let gone = EventStore::connect(&database.url()).await.unwrap();
    gone.close().await;
    until_gone(&other, gone.new_owner()).await;
    let (owner, stranger) = (store.new_owner(), store.new_id());
    for _ in 0..20 {
        // All sessions but one, whichever.
        let but_one = "SELECT pg_terminate_backend(pid) FROM (
            SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND (classid::bigint << 32 | objid::bigint)::bit(64) = ('x' || substr(replace($1::text, '-', ''), 17))::bit(64)
            ORDER BY random() OFFSET 1) AS sessions";
        sqlx::query(but_one).bind(owner).execute(store.pool()).await.unwrap();
        assert!(!other.is_gone(owner).await.unwrap());
        store.head().await.unwrap();
    }
    assert!(!store.is_gone(owner).await.unwrap(), "it knows that of itself");
    assert!(
        !other.is_gone(stranger).await.unwrap(),
        "an id that says nothing is nobody's"
    );
    store.close().await;
    until_gone(&other, owner).await;
}

async fn until_gone(store: &EventStore, owner: Uuid) {
    while !store.is_gone(owner).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

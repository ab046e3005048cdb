//! Connections that are lost: by the network, by the operator.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use sagamill_eventstore::{Error, EventStore, Expected, Position, Signal, Version};
use sagamill_testkit::Proxy;
use sqlx::{Connection, PgConnection, Postgres};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{append, check_dense, everything, log, noted, server::Database};

/// Ends every connection of this database but the asker's.
async fn terminate(connection: &mut PgConnection) {
    let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::query(all).execute(connection).await.unwrap();
}

/// The commit went through, and its answer did not come: it is asked for again, under the same ids, and found.
#[tokio::test]
async fn an_answer_that_is_lost_is_had_by_asking_again() {
    let Some(database) = Database::make() else { return };
    let proxy = Proxy::start(&database.url()).await.unwrap();
    let store = EventStore::connect(&proxy.url()).await.unwrap();
    store
        .commit(append("a", Expected::NoStream, [noted("0")]))
        .await
        .unwrap();
    let mut lost = 0;
    for n in 1..6 {
        let expected = [Expected::Exact(Version(n)), Expected::Any][n as usize % 2];
        let text = format!("lost-{n}");
        let next = append("a", expected, [noted(&text)]);
        // That to this very flush, and not to a look of the lookout's.
        let _lost = proxy.lose_answer_to(text);
        let receipt = store.commit(next.clone()).await.unwrap()[0];
        assert_eq!((receipt.first, receipt.version), (Position(n + 1), Version(n + 1)));
        lost += usize::from(receipt.repeated);
        assert!(store.commit(next).await.unwrap()[0].repeated);
    }
    assert_eq!(lost, 5, "each answer was lost");
    let events = everything(&store).await;
    check_dense(&events);
    assert_eq!(events.len(), 6);
}

/// The line is down for a while: those who can be told for certain are, the others are stored.
#[tokio::test]
async fn appends_wait_for_a_line_that_comes_back_and_give_up_where_it_does_not() {
    let Some(database) = Database::make() else { return };
    let proxy = Proxy::start(&database.url()).await.unwrap();
    let store = EventStore::connect(&proxy.url()).await.unwrap();
    let batch = |n: i64| append("a", Expected::Exact(Version(n)), [noted("x")]);
    store.commit(batch(0)).await.unwrap();
    proxy.cut();
    let (waited, ()) = tokio::join!(store.commit(batch(1)), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.heal();
    });
    waited.unwrap();
    proxy.cut();
    let given_up = store.commit(batch(2)).await;
    assert!(
        matches!(given_up, Err(Error::Unavailable { .. } | Error::Unknown(_))),
        "{given_up:?}"
    );
    assert!(given_up.unwrap_err().is_retryable());
    let read = store.read_all().next().await.unwrap();
    assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
    proxy.heal();
    store.commit(batch(2)).await.unwrap();
    assert_eq!(everything(&store).await.len(), 3);
}

/// An operator ends all connections, again and again, under load: what was acknowledged is there, once, and nothing else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_while_connections_are_ended() {
    let Some((_store, database)) = log().await else { return };
    let stop = CancellationToken::new();
    let stores = [
        EventStore::connect(&database.url()).await.unwrap(),
        EventStore::connect(&database.url()).await.unwrap(),
    ];
    let writers: Vec<_> = (0..16)
        .map(|n| tokio::spawn(write(stores[n % 2].clone(), n, stop.clone())))
        .collect();
    let mut killer = PgConnection::connect(&database.url()).await.unwrap();
    for n in 0..40 {
        tokio::time::sleep(Duration::from_millis(20 + n % 5 * 20)).await;
        terminate(&mut killer).await;
    }
    stop.cancel();
    let (mut stored, mut doubtful) = (Vec::new(), 0);
    for writer in writers {
        let (of, in_doubt) = writer.await.unwrap();
        stored.extend(of);
        doubtful += in_doubt;
    }
    let late = EventStore::connect(&database.url()).await.unwrap();
    let events = everything(&late).await;
    check_dense(&events);
    for (id, position) in &stored {
        assert_eq!(
            events[position.0 as usize - 1].id,
            *id,
            "what was acknowledged is where it was said to be"
        );
    }
    assert!(stored.len() > 50, "something was done: {}", stored.len());
    assert!(
        events.len() <= stored.len() + doubtful,
        "nothing is there that nobody wrote, and nothing twice"
    );
}

/// Answers what was acknowledged, and how many were not.
async fn write(store: EventStore, of: usize, stop: CancellationToken) -> (Vec<(Uuid, Position)>, usize) {
    let (mut stored, mut doubtful) = (Vec::new(), 0);
    while !stop.is_cancelled() {
        let event = noted("x");
        let (id, mut tries) = (event.id, 0);
        let next = append(&format!("s-{of}"), Expected::Any, [event]);
        loop {
            match store.commit(next.clone()).await {
                Ok(receipts) => break stored.push((id, receipts[0].first)),
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
            tries += 1;
            if tries == 3 {
                doubtful += 1;
                break;
            }
        }
    }
    (stored, doubtful)
}

/// Pools hold connections that are gone; a transaction begins all the same, and so does a reading.
#[tokio::test]
async fn transactions_begin_and_reads_go_on_after_all_connections_were_ended() {
    let Some((store, database)) = log().await else { return };
    let mut killer = PgConnection::connect(&database.url()).await.unwrap();
    for n in 1..4 {
        let open = join_all((0..6).map(|_| store.begin())).await;
        for tx in open {
            tx.unwrap().rollback().await.unwrap();
        }
        join_all((0..6).map(|_| store.head()))
            .await
            .into_iter()
            .for_each(|head| assert!(head.is_ok(), "{head:?}"));
        terminate(&mut killer).await;
        let mut tx = store.begin().await.unwrap();
        store.stage_in(&mut tx, "a", [noted("x")]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(everything(&store).await.len(), n);
    }
    // One that is open while its connection is ended is rolled back, and says so.
    let mut tx = store.begin().await.unwrap();
    store.stage_in(&mut tx, "a", [noted("never")]).await.unwrap();
    terminate(&mut killer).await;
    let committed = tx.commit().await;
    assert!(
        matches!(committed, Err(Error::Unknown(_) | Error::Unavailable { .. })),
        "{committed:?}"
    );
    assert_eq!(everything(&store).await.len(), 3);
}

/// A feed lives through it, and hears what is appended by others afterwards.
#[tokio::test]
async fn a_feed_goes_on_where_it_was() {
    let Some((store, database)) = log().await else { return };
    let other = Arc::new(EventStore::connect(&database.url()).await.unwrap());
    let mut feed = store.subscribe("lasting").open().await.unwrap();
    let progress = feed.progress();
    let mut killer = PgConnection::connect(&database.url()).await.unwrap();
    for n in 1..5 {
        terminate(&mut killer).await;
        let append = append("a", Expected::Exact(Version(n - 1)), [noted("x")]);
        while let Err(error) = other.commit(append.clone()).await {
            assert!(error.is_retryable(), "{error:?}");
        }
        loop {
            if let Signal::Event { shard, event } = feed.next().await.unwrap() {
                assert_eq!(event.position, Position(n));
                progress.done(shard, event.position);
                break;
            }
        }
    }
    feed.close().await.unwrap();
    let store: EventStore<Postgres> = store;
    assert_eq!(store.checkpoints().await.unwrap()[0].at.position, Position(4));
}

//! Flushes that the server says no to, and heads that are not what they were.

use std::time::Duration;

use futures_util::future::join_all;
use sagamill_eventstore::{Anchor, Batch, Error, Expected, Guard, NewEvent, Position, Version};
use sqlx::{Connection, PgConnection};

use super::{append, check_dense, everything, execute, log, noted};

/// What holds the log's lock, as another process would.
const LOCK: &str = "SELECT pg_advisory_xact_lock(x'65730001'::bigint << 32 | 'es.event'::regclass::oid::bigint)";

/// One flush of 64 with culprits that only the server finds: those of a trigger of the user's, and ids that are taken.
#[tokio::test]
async fn what_the_server_refuses_is_found_among_its_neighbours() {
    let Some((store, _database)) = log().await else { return };
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no poison'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON es.event FOR EACH ROW WHEN (NEW.type = 'poison') EXECUTE FUNCTION refuse()";
    execute(&store, refuse).await;
    let taken = noted("taken");
    store
        .commit(append("taken", Expected::Any, [taken.clone()]))
        .await
        .unwrap();
    let batch = |n: usize| {
        let events = match n {
            13 | 40 => vec![NewEvent::new("poison", "x")],
            20 => vec![noted("x"), taken.clone()],
            _ => vec![noted("x")],
        };
        append(&format!("s-{n}"), Expected::NoStream, events)
    };
    let answers = join_all((0..64).map(|n| store.commit(batch(n)))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        match (n, answer) {
            (13 | 40, Err(Error::Database(_))) => (),
            (20, Err(Error::IdReused(id))) => assert_eq!(id, taken.id),
            (13 | 20 | 40, other) => panic!("{n}: {other:?}"),
            (_, answer) => assert_eq!(answer.unwrap()[0].version, Version(1)),
        }
    }
    let events = everything(&store).await;
    check_dense(&events);
    assert_eq!(events.len(), 62);
    // What was remembered of the streams holds on.
    for n in [12, 21] {
        let next = append(&format!("s-{n}"), Expected::Exact(Version(1)), [noted("y")]);
        store.commit(next).await.unwrap();
    }
}

/// The wait for the lock ends, without effect; who waited is told so, and may ask again.
#[tokio::test]
async fn a_lock_that_is_not_given_back_is_not_waited_for_for_ever() {
    let Some((store, database)) = log().await else { return };
    let first = append("a", Expected::NoStream, [noted("x")]);
    let mut holder = PgConnection::connect(&database.url()).await.unwrap();
    let mut held = holder.begin().await.unwrap();
    sqlx::query(LOCK).execute(&mut *held).await.unwrap();
    let waited = store.commit(first.clone()).await;
    assert!(matches!(waited, Err(Error::Unavailable { .. })), "{waited:?}");
    assert!(waited.unwrap_err().is_retryable());
    held.rollback().await.unwrap();
    assert!(!store.commit(first).await.unwrap()[0].repeated);
    assert_eq!(store.head().await.unwrap().position, Position(1));
}

/// Another writer brings the log back to the very position that this one remembers: nothing that it remembers counts, of no
/// stream.
#[tokio::test]
async fn nothing_is_believed_of_a_history_that_was_lost() {
    let Some((store, database)) = log().await else { return };
    let grow = async |stream: &str, from: i64, to: i64| {
        for version in from..to {
            let expected = Expected::Exact(Version(version));
            store.commit(append(stream, expected, [noted("x")])).await.unwrap();
        }
    };
    grow("s-1", 0, 3).await;
    grow("s-2", 0, 3).await;
    execute(&store, "DELETE FROM es.event WHERE pos > 2").await;
    let other = sagamill_eventstore::EventStore::connect(&database.url()).await.unwrap();
    for _ in 0..4 {
        other.commit(append("s-3", Expected::Any, [noted("y")])).await.unwrap();
    }
    // The first append meets the other history, and must not make the rest believed again.
    store
        .commit(append("s-4", Expected::NoStream, [noted("z")]))
        .await
        .unwrap();
    for (stream, actual) in [("s-1", 2), ("s-2", 0)] {
        let stale = append(stream, Expected::Exact(Version(3)), [noted("x")]);
        let refused = store.commit(stale).await;
        assert!(
            matches!(refused, Err(Error::Conflict { actual: Version(is), .. }) if is == actual),
            "{stream}: {refused:?}"
        );
    }
    check_dense(&everything(&store).await);
}

/// A batch that guards what another one of the same flush appends to comes before it, or is refused by it.
#[tokio::test]
async fn a_flush_is_some_order_of_its_batches_for_guards_too() {
    let Some((store, _database)) = log().await else { return };
    for round in 0..30 {
        let seen = store.head().await.unwrap().position;
        let guarded = |n: usize| Batch {
            guards: vec![Guard {
                stream: "limit".into(),
                after: seen,
            }],
            ..append(&format!("use-{round}-{n}"), Expected::NoStream, [noted("x")]).into()
        };
        let batches = (0..8).map(|n| {
            if n == round % 8 {
                append("limit", Expected::Any, [noted("changed")]).into()
            } else {
                guarded(n)
            }
        });
        let answers = join_all(batches.map(|batch: Batch| store.commit(batch))).await;
        let changed = answers[round % 8].as_ref().unwrap()[0].first;
        for (n, answer) in answers.iter().enumerate().filter(|(n, _)| *n != round % 8) {
            match answer {
                Ok(receipts) => assert!(
                    receipts[0].last < changed,
                    "{n} was stored after what it guards against"
                ),
                Err(Error::Guarded { at, .. }) => assert_eq!(*at, changed),
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

/// No client ever holds the log's lock: neither with events staged, nor with events joined.
#[tokio::test]
async fn an_open_transaction_holds_up_nobody() {
    let Some((store, _database)) = log().await else { return };
    let mut tx = store.begin().await.unwrap();
    store.stage_in(&mut tx, "a", [noted("late")]).await.unwrap();
    store
        .append_in_checked(&mut tx, "b", Expected::NoStream, [noted("late")])
        .await
        .unwrap();
    for n in 0..20 {
        let commit = store.commit(append(&format!("c-{n}"), Expected::NoStream, [noted("x")]));
        tokio::time::timeout(Duration::from_secs(60), commit)
            .await
            .unwrap()
            .unwrap();
    }
    assert!(store.health().await.unwrap().lock.is_none());
    tx.commit().await.unwrap();
    let events = everything(&store).await;
    check_dense(&events);
    assert_eq!(events.len(), 22);
    assert!(events[20..].iter().all(|event| event.event == "late"));
}

/// A large payload comes back as it was, also as a part of what was read with it.
#[tokio::test]
async fn payloads_of_all_sizes_come_back() {
    let Some((store, _database)) = log().await else { return };
    let sizes = [0, 1, 8_191, 8_192, 100_000, 1 << 20];
    let payload = |size: usize| (0..size).map(|n| (n * 7 % 251) as u8).collect::<Vec<_>>();
    let events = sizes.map(|size| NewEvent::new("sized", payload(size)));
    store.commit(append("a", Expected::NoStream, events)).await.unwrap();
    let events = everything(&store).await;
    for (size, event) in sizes.into_iter().zip(&events) {
        assert_eq!(event.event, payload(size));
    }
    let anchor = Anchor {
        position: Position(6),
        event: Some(events[5].id),
    };
    assert_eq!(store.head().await.unwrap(), anchor);
}

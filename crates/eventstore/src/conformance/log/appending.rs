//! What is stored, and what is refused.

use std::sync::Arc;

use futures_util::future::join_all;
use uuid::Uuid;

use crate::{
    Anchor, Batch, Error, Expected, Guard, Lease, NewEvent, Position, StreamId, Tracking, Version,
    conformance::{Subject, append, everything, noted},
};

/// Any, no stream, exists, exact.
pub async fn a_stream_must_be_as_expected(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    let exact = |version| Expected::Exact(Version(version));
    let steps = [
        (Expected::Exists, Err(0)),
        (exact(1), Err(0)),
        (exact(0), Ok(1)),
        (Expected::NoStream, Err(1)),
        (Expected::Exists, Ok(2)),
        (exact(1), Err(2)),
        (exact(3), Err(2)),
        (exact(2), Ok(3)),
        (Expected::Any, Ok(4)),
    ];
    for (expected, wanted) in steps {
        let answer = store.commit(append("order-1", expected, [noted("x")])).await;
        let answer = answer
            .map(|receipts| receipts[0].version.0)
            .map_err(|error| match error {
                Error::Conflict {
                    stream,
                    expected: was,
                    actual,
                } => {
                    assert_eq!((stream, was), ("order-1".into(), expected));
                    actual.0
                }
                other => panic!("{other:?}"),
            });
        assert_eq!(answer, wanted, "{expected:?}");
    }
    assert_eq!(store.head().await.unwrap().position, Position(4));
}

/// Over several streams, and over appends of several events.
pub async fn positions_and_versions_are_dense(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    assert_eq!(store.head().await.unwrap(), Anchor::default());
    for n in 0..30 {
        let events = (0..=n % 4).map(|k| noted(&format!("{n}.{k}")));
        let receipt = store
            .commit(append(&format!("s-{}", n % 3), Expected::Any, events))
            .await
            .unwrap()[0];
        assert_eq!(receipt.last.0 - receipt.first.0, n % 4);
        assert!(!receipt.repeated);
    }
    check_dense(&everything(&store).await);
}

pub(super) fn check_dense(events: &[crate::Recorded]) {
    let mut versions = std::collections::HashMap::<StreamId, i64>::new();
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.position, Position(n as i64 + 1), "positions are dense");
        let version = versions.entry(event.stream.clone()).or_default();
        *version += 1;
        assert_eq!(
            event.version,
            Version(*version),
            "versions of {} are dense",
            event.stream
        );
    }
}

/// Twenty at once, on two stores.
pub async fn of_parallel_appends_those_that_succeed_are_stored(subject: Arc<dyn Subject>) {
    let stores = [subject.open().await, subject.open().await];
    for (expected, wins) in [
        (Expected::Any, 20),
        (Expected::Exact(Version(20)), 1),
        (Expected::Exists, 20),
    ] {
        let before = stores[0].head().await.unwrap().position.0;
        let one = |n: usize| stores[n % 2].commit(append("counter", expected, [noted("+1")]));
        let answers = join_all((0..20).map(one)).await;
        let stored = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(stored, wins, "{expected:?}");
        assert_eq!(stores[0].head().await.unwrap().position.0 - before, wins as i64);
        let refused = answers.into_iter().filter_map(Result::err);
        refused.for_each(|error| assert!(matches!(error, Error::Conflict { .. }), "{error:?}"));
    }
}

/// One flush with one of each kind among them.
pub async fn a_culprit_fails_alone(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    let taken = noted("first");
    store
        .commit(append("taken", Expected::Any, [taken.clone()]))
        .await
        .unwrap();
    let reused = NewEvent {
        payload: "second".into(),
        ..taken
    };
    let mut batches: Vec<Batch> = (0..58)
        .map(|n| append(&format!("s-{n}"), Expected::NoStream, [noted("x")]).into())
        .collect();
    let culprits: [Batch; 6] = [
        append("taken", Expected::NoStream, [noted("x")]).into(),
        append("x-1", Expected::Any, [reused.clone()]).into(),
        append("x-2", Expected::Any, [noted("x"), reused]).into(),
        Batch {
            guards: vec![Guard {
                stream: "taken".into(),
                after: Position(0),
            }],
            ..append("x-3", Expected::Any, [noted("x")]).into()
        },
        Batch {
            tracking: Some(stranger()),
            ..append("x-4", Expected::Any, [noted("x")]).into()
        },
        append("x-5", Expected::Any, [NewEvent::new("noted", vec![0; (1 << 20) + 1])]).into(),
    ];
    for (n, culprit) in culprits.into_iter().enumerate() {
        batches.insert(n * 9, culprit);
    }
    let answers = join_all(batches.into_iter().map(|batch| store.commit(batch))).await;
    let errors: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(
        matches!(
            errors[..],
            [
                Error::Conflict { .. },
                Error::IdReused(_),
                Error::IdReused(_),
                Error::Guarded { .. },
                Error::Fenced { .. },
                Error::Invalid { .. }
            ]
        ),
        "{errors:?}"
    );
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 58);
    let events = everything(&store).await;
    check_dense(&events);
    assert_eq!(events.len(), 59);
}

/// The tracking of somebody who holds nothing.
fn stranger() -> Tracking {
    let lease = Lease {
        name: "nobody".to_owned(),
        shard: 0,
        owner: Uuid::now_v7(),
        fence: 1,
    };
    Tracking {
        lease,
        to: Anchor {
            position: Position(1),
            event: Some(Uuid::now_v7()),
        },
    }
}

/// Several streams.
pub async fn a_group_is_stored_whole_or_not_at_all(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    store
        .commit(append("b", Expected::NoStream, [noted("x")]))
        .await
        .unwrap();
    let group = |expected| Batch {
        appends: vec![
            append("a", Expected::Any, [noted("1"), noted("2")]),
            append("b", expected, [noted("3")]),
            append("c", Expected::NoStream, [noted("4")]),
        ],
        ..Batch::default()
    };
    let refused = store.commit(group(Expected::NoStream)).await;
    assert!(
        matches!(refused, Err(Error::Conflict { ref stream, .. }) if stream.as_str() == "b"),
        "{refused:?}"
    );
    assert_eq!(everything(&store).await.len(), 1);
    let receipts = store.commit(group(Expected::Exact(Version(1)))).await.unwrap();
    let stored: Vec<_> = receipts.iter().map(|r| (r.first.0, r.last.0, r.version.0)).collect();
    assert_eq!(stored, [(2, 3, 2), (4, 4, 2), (5, 5, 1)]);
    check_dense(&everything(&store).await);
    let twice = Batch {
        appends: vec![append("a", Expected::Any, [noted("1")]); 2],
        ..Batch::default()
    };
    assert!(matches!(store.commit(twice).await, Err(Error::Invalid { .. })));
}

/// After the position that the caller had seen; also by members of the same flush.
pub async fn a_guarded_stream_must_not_have_gone_on(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    let guarded = |after| Batch {
        guards: vec![Guard {
            stream: "limit".into(),
            after: Position(after),
        }],
        ..append("use", Expected::Any, [noted("x")]).into()
    };
    assert!(
        store.commit(guarded(0)).await.is_ok(),
        "a stream without events guards nothing"
    );
    let seen = store
        .commit(append("limit", Expected::Any, [noted("10")]))
        .await
        .unwrap()[0]
        .last;
    match store.commit(guarded(0)).await {
        Err(Error::Guarded { stream, at }) => assert_eq!((stream.as_str(), at), ("limit", seen)),
        other => panic!("{other:?}"),
    }
    assert!(store.commit(guarded(seen.0)).await.is_ok());
    let (changed, refused) = tokio::join!(
        store.commit(append("limit", Expected::Any, [noted("0")])),
        store.commit(guarded(seen.0))
    );
    let changed_at = changed.unwrap()[0].last;
    match refused {
        Err(Error::Guarded { at, .. }) => assert_eq!(at, changed_at),
        Ok(receipts) => assert!(receipts[0].last < changed_at, "the guard held when it was judged"),
        other => panic!("{other:?}"),
    }
}

/// And what came with it is not stored.
pub async fn nobody_moves_a_checkpoint_without_its_lease(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    let batch = Batch {
        tracking: Some(stranger()),
        ..append("a", Expected::Any, [noted("x")]).into()
    };
    match store.commit(batch).await {
        Err(Error::Fenced { name, shard }) => assert_eq!((name.as_str(), shard), ("nobody", 0)),
        other => panic!("{other:?}"),
    }
    assert!(everything(&store).await.is_empty());
}

/// One byte less is stored, one more is refused.
pub async fn limits_are_checked_to_the_byte(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    let name = |bytes: usize| "x".repeat(bytes);
    let good = [
        append(&name(255), Expected::Any, [noted("x")]),
        append("a", Expected::Any, [NewEvent::new(name(255), "x")]),
        append("a", Expected::Any, [NewEvent::new("big", vec![b'x'; 1 << 20])]),
        append(
            "a",
            Expected::Any,
            [NewEvent {
                topic: Some(name(255).into()),
                key: Some(name(255)),
                ..noted("x")
            }],
        ),
        append("a", Expected::Any, [NewEvent::new("empty", "")]),
    ];
    for batch in good.clone() {
        store.commit(batch).await.unwrap();
    }
    let bad = [
        append(&name(256), Expected::Any, [noted("x")]),
        append("", Expected::Any, [noted("x")]),
        append("a\0", Expected::Any, [noted("x")]),
        append("a", Expected::Any, []),
        append("a", Expected::Any, [NewEvent::new(name(256), "x")]),
        append("a", Expected::Any, [NewEvent::new("", "x")]),
        append("a", Expected::Any, [NewEvent::new("big", vec![b'x'; (1 << 20) + 1])]),
        append(
            "a",
            Expected::Any,
            [NewEvent {
                topic: Some("a\0".into()),
                ..noted("x")
            }],
        ),
        append(
            "a",
            Expected::Any,
            [NewEvent {
                key: Some(name(256)),
                ..noted("x")
            }],
        ),
    ];
    for batch in bad {
        let refused = store.commit(batch).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    let events = everything(&store).await;
    assert_eq!(events.len(), good.len());
    assert_eq!(events[2].event.len(), 1 << 20);
}

/// Also where they are parts of groups, and wait for each other over other streams.
pub async fn appends_to_one_stream_keep_their_order(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    let group = |n: i64| {
        let streams = if n % 5 == 0 {
            vec![n % 3, (n + 1) % 3]
        } else {
            vec![n % 3]
        };
        let appends = streams
            .iter()
            .map(|s| append(&format!("s-{s}"), Expected::Any, [noted(&n.to_string())]));
        Batch {
            appends: appends.collect(),
            ..Batch::default()
        }
    };
    // Polled in this order, they are queued in this order, as long as tokio does not make the test take turns.
    join_all((0..60).map(|n| store.commit(group(n))))
        .await
        .into_iter()
        .for_each(|answer| drop(answer.unwrap()));
    let mut last = std::collections::HashMap::new();
    for event in everything(&store).await {
        let n: i64 = std::str::from_utf8(&event.event).unwrap().parse().unwrap();
        assert!(
            last.insert(event.stream.clone(), n).is_none_or(|before| before < n),
            "{} in {}",
            n,
            event.stream
        );
    }
}

/// By the log's clock, which its readers and timers share.
pub async fn time_never_goes_backwards(subject: Arc<dyn Subject>) {
    let stores = [subject.open().await, subject.open().await];
    let before = stores[0].now();
    for n in 0..20 {
        stores[n % 2]
            .commit(append("a", Expected::Any, [noted("x")]))
            .await
            .unwrap();
    }
    let events = everything(&stores[0]).await;
    assert!(events.is_sorted_by_key(|event| event.at));
    assert!(before <= events[0].at && events[19].at <= stores[1].now());
}

/// What it had taken is answered.
pub async fn a_closed_store_takes_nothing(subject: Arc<dyn Subject>) {
    let (closed, open) = (subject.open().await, subject.open().await);
    let taken = (0..20).map(|n| closed.commit(append(&format!("s-{n}"), Expected::Any, [noted("x")])));
    let (answers, ()) = tokio::join!(join_all(taken), closed.close());
    let stored = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(everything(&open).await.len(), stored);
    assert!(
        answers
            .iter()
            .flat_map(|answer| answer.as_ref().err())
            .all(|error| matches!(error, Error::ShutDown))
    );
    let late = closed.commit(append("late", Expected::Any, [noted("x")])).await;
    assert!(matches!(late, Err(Error::ShutDown)));
}

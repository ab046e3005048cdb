//! The same again.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    Anchor, Batch, Error, Expected, Guard, Lease, NewEvent, Position, Receipt, Tracking, Version,
    conformance::{Subject, append, everything, noted},
};

/// Also from another process, and while the first is still on its way.
pub async fn a_repeat_gets_the_first_receipts(subject: Arc<dyn Subject>) {
    let (store, other) = (subject.open().await, subject.open().await);
    let group = Batch {
        appends: vec![
            append("a", Expected::NoStream, [noted("1"), noted("2")]),
            append("b", Expected::NoStream, [noted("3")]),
        ],
        ..Batch::default()
    };
    let (one, two) = tokio::join!(store.commit(group.clone()), store.commit(group.clone()));
    store.commit(append("a", Expected::Any, [noted("4")])).await.unwrap();
    let three = other.commit(group).await.unwrap();
    let (one, two) = (one.unwrap(), two.unwrap());
    let first = [
        Receipt {
            first: Position(1),
            last: Position(2),
            version: Version(2),
            repeated: false,
        },
        Receipt {
            first: Position(3),
            last: Position(3),
            version: Version(1),
            repeated: false,
        },
    ];
    let again = first.map(|receipt| Receipt {
        repeated: true,
        ..receipt
    });
    assert_eq!((&one[..], &two[..], &three[..]), (&first[..], &again[..], &again[..]));
    assert_eq!(everything(&store).await.len(), 4);
}

/// Expectation, guard and lease no longer hold, and the first receipt is given all the same.
pub async fn a_repeat_is_known_before_anything_is_judged(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    let first = append("a", Expected::NoStream, [noted("1")]);
    store.commit(first.clone()).await.unwrap();
    store
        .commit(append("guarded", Expected::Any, [noted("x")]))
        .await
        .unwrap();
    let lease = Lease {
        name: "nobody".to_owned(),
        shard: 0,
        owner: Uuid::now_v7(),
        fence: 1,
    };
    let again = Batch {
        guards: vec![Guard {
            stream: "guarded".into(),
            after: Position(0),
        }],
        tracking: Some(Tracking {
            lease,
            to: Anchor::default(),
        }),
        ..first.into()
    };
    let receipts = store.commit(again).await.unwrap();
    assert!(receipts[0].repeated);
    assert_eq!(receipts[0].first, Position(1));
}

/// With other content, in another stream, inside another append, or beside others.
pub async fn an_id_is_not_used_twice(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    let (one, two, new) = (noted("1"), noted("2"), noted("new"));
    let both = append("a", Expected::Any, [one.clone(), two.clone()]);
    store.commit(both.clone()).await.unwrap();
    let changed = |change: fn(&mut NewEvent)| {
        let mut event = one.clone();
        change(&mut event);
        append("a", Expected::Any, [event, two.clone()]).into()
    };
    let group = |appends| Batch {
        appends,
        ..Batch::default()
    };
    let bad: [Batch; 11] = [
        changed(|event| event.payload = "other".into()),
        changed(|event| event.name = "other".to_owned()),
        changed(|event| event.schema = 2),
        changed(|event| event.topic = Some("orders".into())),
        changed(|event| event.headers.set("a", "b")),
        append("b", Expected::Any, [one.clone(), two.clone()]).into(),
        append("a", Expected::Any, [one.clone()]).into(),
        append("a", Expected::Any, [two.clone()]).into(),
        append("a", Expected::Any, [new.clone(), two.clone()]).into(),
        group(vec![both.clone(), append("b", Expected::Any, [new.clone()])]),
        group(vec![
            append("b", Expected::Any, [new.clone()]),
            append("c", Expected::Any, [new.clone()]),
        ]),
    ];
    for batch in bad {
        let refused = store.commit(batch.clone()).await;
        assert!(matches!(refused, Err(Error::IdReused(_))), "{batch:?}: {refused:?}");
    }
    assert_eq!(everything(&store).await.len(), 2);
}

/// Another writer brings the log back to the position that this one remembers, after its tail was lost.
pub async fn a_lost_tail_that_grew_again_leaves_no_hole(subject: Arc<dyn Subject>) {
    let (store, other) = (subject.open().await, subject.open().await);
    for n in 0..4 {
        store
            .commit(append("s-1", Expected::Exact(Version(n)), [noted("x")]))
            .await
            .unwrap();
    }
    subject.lose_tail(Position(2)).await;
    for _ in 0..2 {
        other.commit(append("s-2", Expected::Any, [noted("y")])).await.unwrap();
    }
    let stale = store
        .commit(append("s-1", Expected::Exact(Version(4)), [noted("x")]))
        .await;
    assert!(
        matches!(stale, Err(Error::Conflict { actual: Version(2), .. })),
        "{stale:?}"
    );
    store.commit(append("s-1", Expected::Any, [noted("x")])).await.unwrap();
    super::appending::check_dense(&everything(&store).await);
}

//! Events that share a caller's transaction, on logs that can.

use std::sync::Arc;

use futures_util::future::join_all;

use super::joined::Joined;
use crate::{
    Batch, Error, Expected, NewEvent, Position, Version,
    conformance::{Subject, append, everything, noted},
};

/// Through `begin` and through the pool's own; a rolled-back event never appears.
pub async fn staged_events_come_and_go_with_their_transaction(subject: Arc<dyn Subject>) {
    let Some(store) = Joined::open(&*subject).await else {
        return;
    };
    let any = store.any();
    let mut tx = store.begin().await;
    tx.effect().await;
    tx.stage(&store, "a", vec![noted("1"), noted("2")]).await.unwrap();
    assert_eq!(any.head().await.unwrap().position, Position(0), "not before the commit");
    tx.commit().await.unwrap();
    assert_eq!(any.head().await.unwrap().position, Position(2), "and right after it");
    for explicit in [true, false] {
        let mut tx = store.begin().await;
        tx.effect().await;
        tx.stage(&store, "a", vec![noted("never")]).await.unwrap();
        if explicit {
            tx.rollback().await;
        }
    }
    store.stage_unrung("b", vec![noted("3")]).await;
    any.commit(append("a", Expected::Exact(Version(2)), [noted("4")]))
        .await
        .unwrap();
    let events = everything(&any).await;
    super::appending::check_dense(&events);
    let payloads: Vec<_> = events.iter().map(|event| event.event.clone()).collect();
    assert_eq!(payloads, ["1", "2", "3", "4"]);
    assert!(events.is_sorted_by_key(|event| event.at));
    assert_eq!(store.effects().await, 2);
}

/// Staged again, or appended; half of it is added to what was there.
pub async fn a_staged_fact_is_stored_once(subject: Arc<dyn Subject>) {
    let Some(store) = Joined::open(&*subject).await else {
        return;
    };
    let any = store.any();
    let (one, two, three) = (noted("1"), noted("2"), noted("3"));
    let stage = async |events: Vec<NewEvent>| {
        let mut tx = store.begin().await;
        tx.stage(&store, "a", events).await.unwrap();
        tx.commit().await.unwrap();
    };
    stage(vec![one.clone()]).await;
    stage(vec![one.clone()]).await;
    stage(vec![two.clone(), one.clone(), three.clone()]).await;
    let events = everything(&any).await;
    assert_eq!(
        events.iter().map(|event| event.id).collect::<Vec<_>>(),
        [one.id, two.id, three.id]
    );
    super::appending::check_dense(&events);
    let receipts = any
        .commit(append("a", Expected::NoStream, [one.clone()]))
        .await
        .unwrap();
    assert!(receipts[0].repeated, "what was staged is known to an append");
    let half = any.commit(append("a", Expected::Any, [two, one, three])).await;
    assert!(
        matches!(half, Err(Error::IdReused(_))),
        "its events came in two transactions: {half:?}"
    );
    let (four, five) = (noted("4"), noted("5"));
    stage(vec![four.clone(), five.clone()]).await;
    let whole = any.commit(append("a", Expected::Any, [four, five])).await.unwrap();
    assert_eq!(
        (whole[0].repeated, whole[0].first, whole[0].last),
        (true, Position(4), Position(5))
    );
}

/// However many they are, some of them there before or given twice.
pub async fn any_number_of_events_joins(subject: Arc<dyn Subject>) {
    let Some(store) = Joined::open(&*subject).await else {
        return;
    };
    let any = store.any();
    let mut stored = 0;
    for count in [1, 2, 4, 5, 16, 17, 64, 65, 200] {
        let stream = format!("s-{count}");
        let join = async |events: Vec<NewEvent>, expected: Option<Expected>| {
            let mut tx = store.begin().await;
            let joined = match expected {
                Some(expected) => tx.append(&store, &stream, expected, events).await,
                None => tx.stage(&store, &stream, events).await,
            };
            let committed = tx.commit().await;
            joined.and(committed)
        };
        let facts = |first: usize| {
            (first..first + count)
                .map(|n| noted(&n.to_string()))
                .collect::<Vec<_>>()
        };
        let new = facts(0);
        join(new.clone(), Some(Expected::NoStream)).await.unwrap();
        let receipts = any.commit(append(&stream, Expected::Any, new.clone())).await.unwrap();
        assert!(receipts[0].repeated, "{count} that joined together are known together");
        let mut half = facts(count);
        half[count - 1] = new[count / 2].clone();
        half.push(half[0].clone());
        let known = join(half.clone(), Some(Expected::Any)).await;
        assert!(
            matches!(known, Err(Error::Repeated(id)) if id == new[count / 2].id),
            "{count}: {known:?}"
        );
        join(half.clone(), None).await.unwrap();
        join(new.clone(), None).await.unwrap();
        half.pop();
        if count > 1 {
            let again = any.commit(append(&stream, Expected::Any, half)).await;
            assert!(matches!(again, Err(Error::IdReused(_))), "{count}: {again:?}");
        }
        let stale = join(facts(0), Some(Expected::Exact(Version(1)))).await;
        let version = Version(2 * count as i64 - 1);
        assert!(
            matches!(stale, Err(Error::Conflict { actual, .. }) if actual == version) || count == 1,
            "{count}: {stale:?}"
        );
        stored += if count == 1 { 2 } else { 2 * count - 1 };
        let events = everything(&any).await;
        super::appending::check_dense(&events);
        assert_eq!(events.len(), stored, "{count}");
        assert!(events.is_sorted_by_key(|event| event.at));
    }
}

/// The caller's own work is left, to be committed or not.
pub async fn a_checked_append_fails_without_a_trace(subject: Arc<dyn Subject>) {
    let Some(store) = Joined::open(&*subject).await else {
        return;
    };
    let events = vec![noted("1"), noted("2")];
    let mut tx = store.begin().await;
    tx.effect().await;
    tx.append(&store, "a", Expected::NoStream, events.clone())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let mut tx = store.begin().await;
    tx.effect().await;
    let stale = tx
        .append(&store, "a", Expected::Exact(Version(1)), vec![noted("3"), noted("4")])
        .await;
    assert!(
        matches!(stale, Err(Error::Conflict { actual: Version(2), .. })),
        "{stale:?}"
    );
    let again = tx.append(&store, "a", Expected::Any, events).await;
    assert!(matches!(again, Err(Error::Repeated(_))), "{again:?}");
    tx.commit().await.unwrap();
    assert_eq!(store.effects().await, 2);
    assert_eq!(everything(&store.any()).await.len(), 2);
}

/// Callers' transactions beside the appender: all get on, and nobody meets a locked file.
pub async fn writers_queue_in_turn(subject: Arc<dyn Subject>) {
    let Some(store) = Joined::open(&*subject).await else {
        return;
    };
    let other = subject.open().await;
    let staging = join_all((0..40).map(async |n| {
        let mut tx = store.begin().await;
        tx.effect().await;
        tx.stage(&store, &format!("s-{}", n % 4), vec![noted("x")])
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }));
    let appending = join_all((0..4).map(async |n| {
        for _ in 0..20 {
            let group = vec![
                append(&format!("d-{n}"), Expected::Any, [noted("x")]),
                append(&format!("s-{n}"), Expected::Any, [noted("x")]),
            ];
            let store = if n % 2 == 0 { &other } else { &store.any() };
            store
                .commit(Batch {
                    appends: group,
                    ..Batch::default()
                })
                .await
                .unwrap();
        }
    }));
    tokio::join!(staging, appending);
    let events = everything(&store.any()).await;
    super::appending::check_dense(&events);
    assert_eq!(events.len(), 40 + 4 * 20 * 2);
    assert_eq!(store.effects().await, 40);
}

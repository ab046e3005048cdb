//! A log that is not the one that was read: told, never passed over.

use std::{sync::Arc, time::Duration};

use super::{Paced, checkpoint, fill, follow, sub};
use crate::{Append, Batch, Error, Expected, NewEvent, Position, Signal, backend::ANCHOR_EVERY, conformance::Subject};

/// A checkpoint beyond a lost tail is told at the opening; after a rewind to the last common place it goes on there.
pub async fn lost_tail_is_told_and_rewound(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    for events in [10, 5, 5] {
        fill(&store, events).await;
        let from = checkpoint(&store, "diverged").await.position.0;
        let mut feed = sub(&store, subject, "diverged").open().await.unwrap();
        follow(&mut feed, from, from + events as i64).await;
        feed.close().await.unwrap();
        // Each round's places are kept, and not only the first one's.
        tokio::time::sleep(ANCHOR_EVERY + Duration::from_millis(1)).await;
    }
    subject.lose_tail(Position(12)).await;
    fill(&store, 20).await;
    let opened = sub(&store, subject, "diverged").open().await;
    let Err(Error::LogDiverged { name, at, common }) = opened else {
        panic!("{opened:?} is not LogDiverged")
    };
    assert_eq!((name.as_str(), at.position), ("diverged", Position(20)));
    assert!((1..=12).contains(&common.0), "{common} is no place that both share");
    assert_eq!(store.rewind("another").await.unwrap(), 0);
    assert_eq!(store.rewind("diverged").await.unwrap(), 1);
    let mut feed = sub(&store, subject, "diverged").open().await.unwrap();
    follow(&mut feed, common.0, 32).await;
    feed.close().await.unwrap();
    store.close().await;
}

/// Accepted, another history is gone on with behind the place that was come to, or at its end where it is shorter.
pub async fn another_history_can_be_accepted(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    fill(&store, 20).await;
    for name in ["longer", "shorter"] {
        let mut feed = sub(&store, subject, name).open().await.unwrap();
        follow(&mut feed, 0, 20).await;
        feed.close().await.unwrap();
    }
    subject.lose_tail(Position(12)).await;
    fill(&store, 3).await;
    assert_eq!(store.accept("shorter").await.unwrap(), 1);
    fill(&store, 10).await;
    assert_eq!(store.accept("longer").await.unwrap(), 1);
    assert_eq!(store.accept("longer").await.unwrap(), 0, "it is of this history now");
    for (name, from) in [("shorter", 15), ("longer", 20)] {
        let mut feed = sub(&store, subject, name).open().await.unwrap();
        follow(&mut feed, from, 25).await;
        feed.close().await.unwrap();
    }
    store.close().await;
}

/// A tail that is lost under an open feed stops it, with the reason.
pub async fn tail_lost_under_an_open_feed_ends_it(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    fill(&store, 10).await;
    let mut feed = sub(&store, subject, "open").open().await.unwrap();
    follow(&mut feed, 0, 10).await;
    subject.lose_tail(Position(4)).await;
    let ended = loop {
        if let Err(ended) = feed.next().await {
            break ended;
        }
    };
    assert!(matches!(ended, Error::LogDiverged { .. }), "{ended}");
    feed.close().await.unwrap();
    store.close().await;
}

/// Also where the log has grown beyond what was read, so that nothing seems to be missing; none of that is handed out.
pub async fn tail_lost_and_grown_again_under_an_open_feed_ends_it(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    fill(&store, 10).await;
    let mut feed = sub(&store, subject, "grown").open().await.unwrap();
    follow(&mut feed, 0, 10).await;
    subject.lose_tail(Position(4)).await;
    let other = subject.open().await;
    let mut lost = Batch::default();
    for n in 0..12 {
        let append = Append {
            stream: format!("order-{n}").into(),
            expected: Expected::Any,
            events: vec![NewEvent::new("order.placed", &b"{}"[..])],
        };
        lost.appends.push(append);
    }
    other.commit(lost).await.unwrap();
    let ended = loop {
        match feed.next().await {
            Ok(Signal::Event { event, .. }) => panic!("an event of another history was handed out: {event:?}"),
            Ok(_) => (),
            Err(ended) => break ended,
        }
    };
    assert!(
        matches!(ended, Error::LogDiverged { at, .. } if at.position == Position(10)),
        "{ended}"
    );
    feed.close().await.unwrap();
    store.close().await;
}

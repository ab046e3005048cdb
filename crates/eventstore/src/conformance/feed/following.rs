//! Following the log: nothing is skipped, and nothing comes twice to those who keep what they hold.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Paced, append, checkpoint, fill, follow, next_event, sub};
use crate::{EventStore, From, Position, Recorded, ShardBy, Signal, conformance::Subject};

/// Writers at work, subscribers from the beginning and from half-way, with little room: each sees what was committed, once,
/// in order per shard, from catching up to live.
pub async fn every_subscriber_sees_what_was_committed_from_catch_up_to_live(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    const BEFORE: i64 = 200;
    const WRITERS: i64 = 4;
    const EACH: i64 = 150;
    let store = subject.open().await;
    fill(&store, BEFORE as usize).await;
    let mut tasks = JoinSet::new();
    for n in 0..8 {
        let from = if n % 2 == 0 { 0 } else { BEFORE / 2 };
        let start = if from == 0 {
            From::Beginning
        } else {
            From::After(Position(from))
        };
        let subscription = sub(&store, subject, &format!("subscriber-{n}"))
            .from(start)
            .max_in_flight(40);
        let mut feed = subscription
            .shards(if n < 4 { 1 } else { 8 }, ShardBy::Stream)
            .open()
            .await
            .unwrap();
        tasks.spawn(async move {
            follow(&mut feed, from, BEFORE + WRITERS * EACH).await;
            feed.close().await.unwrap();
        });
    }
    for _ in 0..WRITERS {
        let store = store.clone();
        tasks.spawn(async move { fill(&store, EACH as usize).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    store.close().await;
}

/// Closed and opened again, it goes on where it was; what was handed out and not done comes again.
pub async fn checkpoint_survives_a_restart_and_only_open_events_come_again(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    fill(&store, 30).await;
    let mut feed = sub(&store, subject, "resumed").open().await.unwrap();
    let progress = feed.progress();
    for expected in 1..=20 {
        let (shard, position) = next_event(&mut feed).await;
        assert_eq!(position.0, expected);
        if expected != 11 {
            progress.done(shard, position);
        }
    }
    feed.close().await.unwrap();
    assert_eq!(checkpoint(&store, "resumed").await.position, Position(10));
    let store = subject.open().await;
    let mut feed = sub(&store, subject, "resumed").open().await.unwrap();
    follow(&mut feed, 10, 30).await;
    feed.close().await.unwrap();
    assert_eq!(checkpoint(&store, "resumed").await, store.head().await.unwrap());
    store.close().await;
}

/// Events that a filter leaves out count as done: the checkpoint moves over them.
pub async fn checkpoint_of_a_filtered_subscription_advances(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    append(&store, "payment-1", "payment.captured").await;
    fill(&store, 40).await;
    let mut feed = sub(&store, subject, "filtered")
        .category("payment")
        .open()
        .await
        .unwrap();
    let (shard, position) = next_event(&mut feed).await;
    assert_eq!(position, Position(1));
    feed.progress().done(shard, position);
    while !matches!(feed.next().await.unwrap(), Signal::CaughtUp { at } if at == Position(41)) {}
    feed.close().await.unwrap();
    assert_eq!(checkpoint(&store, "filtered").await, store.head().await.unwrap());
    store.close().await;
}

/// Says that it has caught up, also with nothing.
pub async fn new_feed_of_an_empty_log_has_caught_up(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    let mut feed = sub(&store, subject, "empty").open().await.unwrap();
    assert!(matches!(feed.next().await.unwrap(), Signal::Gained { .. }));
    assert!(matches!(feed.next().await.unwrap(), Signal::CaughtUp { at } if at == Position(0)));
    feed.close().await.unwrap();
    store.close().await;
}

/// At the bound, no more is handed out; a shard that gets nothing done leaves room for the others.
pub async fn stuck_shard_holds_up_no_other(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    let mut feed = sub(&store, subject, "stuck")
        .shards(2, ShardBy::Stream)
        .max_in_flight(8)
        .open()
        .await
        .unwrap();
    let progress = feed.progress();
    append(&store, "a-0", "a").await;
    let (stuck, first) = next_event(&mut feed).await;
    for n in 1..60 {
        append(&store, "a-0", "a").await;
        append(&store, &format!("b-{n}"), "b").await;
    }
    let (mut held, mut passed) = (vec![first], 0);
    let others = events_outside(&store, stuck).await;
    while passed < others {
        let (shard, position) = next_event(&mut feed).await;
        if shard == stuck {
            held.push(position);
            assert!(held.len() <= 8, "{} events of a stuck shard are out", held.len());
        } else {
            passed += 1;
            progress.done(shard, position);
        }
    }
    // Let go, the stuck shard hands out all the rest, in order and once.
    let total = 119 - others;
    held.iter().for_each(|position| progress.done(stuck, *position));
    let mut last = *held.last().unwrap();
    for _ in held.len()..total {
        let (shard, position) = next_event(&mut feed).await;
        assert!(shard == stuck && position > last);
        last = position;
        progress.done(shard, position);
    }
    feed.close().await.unwrap();
    assert_eq!(checkpoint(&store, "stuck").await, store.head().await.unwrap());
    store.close().await;
}
/// How many events lie in other shards than this one.
async fn events_outside(store: &EventStore, shard: u16) -> usize {
    let mut feed = store
        .subscribe("count")
        .shards(2, ShardBy::Stream)
        .open()
        .await
        .unwrap();
    let seen = follow(&mut feed, 0, store.head().await.unwrap().position.0).await;
    feed.close().await.unwrap();
    seen.shards
        .iter()
        .filter(|(of, _)| **of != shard)
        .map(|(_, events)| events.len())
        .sum()
}

/// From now on means what it says, and it stays so when it is opened again.
pub async fn subscription_from_now_skips_what_was_there(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    fill(&store, 5).await;
    sub(&store, subject, "now")
        .from(From::Now)
        .open()
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    fill(&store, 5).await;
    let mut feed = sub(&store, subject, "now").from(From::Now).open().await.unwrap();
    follow(&mut feed, 5, 10).await;
    feed.close().await.unwrap();
    store.close().await;
}

/// A handler that fails holds its shard, and no other; events of a shard are handled one after the other.
pub async fn handler_that_fails_holds_its_shard(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    for n in 0..20 {
        append(&store, &format!("order-{}", n % 4), "order.placed").await;
    }
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut failures = 2;
    let handler = move |event: Recorded| {
        let fails = event.position == Position(2) && failures > 0;
        failures -= i32::from(fails);
        tell.send((event.position.0, fails)).unwrap();
        let handled: futures_core::future::BoxFuture<'static, _> =
            Box::pin(async move { if fails { Err("not now".into()) } else { Ok(()) } });
        handled
    };
    let watch = async {
        let mut handled = Vec::new();
        while handled.len() < 20 {
            let (position, failed) = told.recv().await.unwrap();
            if !failed {
                handled.push(position);
            }
        }
        handled
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let subscription = sub(&store, subject, "handled").shards(4, ShardBy::Stream);
    let run = subscription.run(handler, async { stopped.await.unwrap_or_default() });
    let (run, handled) = tokio::join!(run, async {
        let handled = watch.await;
        stop.send(()).unwrap();
        handled
    });
    run.unwrap();
    let place = |position: i64| handled.iter().position(|of| *of == position).unwrap();
    assert!(place(2) < place(6) && place(6) < place(10), "{handled:?}");
    assert_eq!(checkpoint(&store, "handled").await.position, Position(20));
    store.close().await;
}

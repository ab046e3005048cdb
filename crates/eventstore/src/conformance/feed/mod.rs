//! Subscriptions, leases and the relay.

pub mod diverging;
pub mod following;
pub mod owning;
pub mod relaying;
pub mod restarting;
mod transport;

use std::collections::BTreeMap;

use super::Paced;
use crate::{Anchor, Append, EventStore, Expected, Feed, NewEvent, Position, Signal, Subscription};

/// Appends so many events, over 16 streams.
async fn fill(store: &EventStore, events: usize) {
    for n in 0..events {
        append(store, &format!("order-{}", n % 16), "order.placed").await;
    }
}
async fn append(store: &EventStore, stream: &str, name: &str) -> Position {
    let append = Append {
        stream: stream.into(),
        expected: Expected::Any,
        events: vec![NewEvent::new(name, &b"{}"[..])],
    };
    store.commit(append).await.unwrap()[0].last
}

/// What was handed out so far, by shard.
#[derive(Default)]
struct Seen {
    shards: BTreeMap<u16, Vec<Position>>,
}

impl Seen {
    fn all(&self) -> Vec<i64> {
        let mut all: Vec<i64> = self.shards.values().flatten().map(|position| position.0).collect();
        all.sort_unstable();
        all
    }
    fn note(&mut self, shard: u16, position: Position) {
        let seen = self.shards.entry(shard).or_default();
        assert!(
            seen.last().is_none_or(|last| *last < position),
            "shard {shard}: {position} after {:?}",
            seen.last()
        );
        seen.push(position);
    }
}

/// Takes and marks done until everything up to a position has come.
async fn follow(feed: &mut Feed, from: i64, to: i64) -> Seen {
    let (mut seen, progress) = (Seen::default(), feed.progress());
    for _ in from..to {
        let (shard, position) = next_event(feed).await;
        seen.note(shard, position);
        progress.done(shard, position);
    }
    assert_eq!(seen.all(), (from + 1..=to).collect::<Vec<_>>());
    seen
}
async fn next_event(feed: &mut Feed) -> (u16, Position) {
    loop {
        if let Signal::Event { shard, event } = feed.next().await.unwrap() {
            return (shard, event.position);
        }
    }
}
/// Takes signals until so many shards were gained.
async fn gain(feed: &mut Feed, shards: usize) {
    let mut gained = 0;
    while gained < shards {
        gained += usize::from(matches!(feed.next().await.unwrap(), Signal::Gained { .. }));
    }
}
async fn checkpoint(store: &EventStore, name: &str) -> Anchor {
    let all = store.checkpoints().await.unwrap();
    all.into_iter()
        .filter(|of| of.name == name)
        .min_by_key(|of| of.at.position)
        .map(|of| of.at)
        .unwrap_or_default()
}
fn sub(store: &EventStore, subject: &Paced, name: &str) -> Subscription {
    store.subscribe(name).lease(subject.ttl())
}

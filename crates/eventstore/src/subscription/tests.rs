//! The bounds of what is held.

use std::time::Duration;

use bytes::Bytes;
use sagamill_bus::Headers;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Pauses, Signal,
    shared::{Shared, Taken},
};
use crate::{
    Anchor, Lease, Position, Recorded, StreamId, Version,
    backend::{Claimed, Page},
};

fn event(position: i64, payload: Bytes) -> Recorded {
    Recorded {
        position: Position(position),
        stream: StreamId::from("order-1"),
        version: Version(position),
        at: jiff::Timestamp::UNIX_EPOCH,
        id: Uuid::from_u128(position as u128),
        name: "order.placed".to_owned(),
        schema: 1,
        topic: None,
        key: None,
        correlation: None,
        causation: None,
        headers: Headers::new(),
        event: payload,
    }
}

/// A feed's state with so many shards, and a page from a position on that spreads over them in turn.
fn shared(most: usize, shards: u16) -> Shared {
    let shared = Shared::new(most, false);
    for shard in 0..shards {
        let lease = Lease {
            name: "test".to_owned(),
            shard,
            owner: Uuid::nil(),
            fence: 1,
        };
        let claimed = Claimed {
            lease,
            checkpoint: Anchor::default(),
            doubt: Position(0),
        };
        shared.gain(claimed, Instant::now() + Duration::from_secs(60));
    }
    shared
}
fn fill(shared: &Shared, log: &[Recorded], shards: u16) -> bool {
    let Some(from) = shared.lock().cursor() else {
        return false;
    };
    let events: Vec<_> = log
        .iter()
        .filter(|event| event.position > from.position)
        .cloned()
        .collect();
    let last = log
        .last()
        .map(|last| Anchor {
            position: last.position,
            event: Some(last.id),
        })
        .unwrap_or_default();
    let page = Page {
        events,
        scanned: last.position.0,
        anchor: last,
        end: true,
        before: None,
    };
    shared.fill(from, page, |event| (event.position.0 % i64::from(shards)) as u16);
    true
}
fn take(shared: &Shared) -> Vec<(u16, Position)> {
    let mut events = Vec::new();
    loop {
        match shared.take() {
            Taken::Signal(Signal::Event { shard, event }) => events.push((shard, event.position)),
            Taken::Signal(_) => (),
            Taken::Nothing | Taken::End(_) => return events,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn payload_that_is_held_is_bounded_whatever_the_number_of_events() {
    let megabyte = Bytes::from(vec![0; 1 << 20]);
    let log: Vec<_> = (1..=100).map(|position| event(position, megabyte.clone())).collect();
    let shared = shared(1_000, 1);
    assert!(fill(&shared, &log, 1));
    let first = take(&shared);
    assert_eq!(first.len(), 64);
    assert!(!fill(&shared, &log, 1), "it is full");
    shared.done(0, Position(1));
    assert!(fill(&shared, &log, 1));
    assert_eq!(take(&shared), [(0, Position(65))]);
}

#[tokio::test(start_paused = true)]
async fn everything_comes_once_and_in_order_whatever_shards_are_stuck() {
    let log: Vec<_> = (1..=300).map(|position| event(position, Bytes::new())).collect();
    let shared = shared(16, 3);
    let (mut stuck, mut others) = (Vec::new(), Vec::new());
    while others.len() < 200 {
        assert!(fill(&shared, &log, 3), "shards that get something done go on");
        for (shard, position) in take(&shared) {
            if shard == 0 {
                stuck.push(position);
            } else {
                others.push(position.0);
                shared.done(shard, position);
            }
        }
        assert!(stuck.len() <= 8, "half of the room is the most that one shard takes");
    }
    for shard in 1..3 {
        let of: Vec<_> = others
            .iter()
            .filter(|position| *position % 3 == shard)
            .copied()
            .collect();
        assert!(of.is_sorted() && of.len() == 100, "{of:?}");
    }
    let mut seen = Vec::new();
    while seen.len() < 100 {
        for position in std::mem::take(&mut stuck) {
            shared.done(0, position);
            seen.push(position.0);
        }
        if seen.len() < 100 {
            assert!(fill(&shared, &log, 3));
            stuck.extend(take(&shared).into_iter().map(|(_, position)| position));
        }
    }
    assert_eq!(seen, (1..=100).map(|n| 3 * n).collect::<Vec<_>>());
}

#[test]
fn what_comes_back_is_found_before_half_of_its_absence_more() {
    let (mut pauses, mut away) = (Pauses::default(), Duration::ZERO);
    let most = Duration::from_secs(30);
    for _ in 0..40 {
        let pause = pauses.next(most);
        assert!(
            pause <= most && pause <= away / 2 + Duration::from_millis(100),
            "{pause:?} after {away:?}"
        );
        away += pause;
    }
    assert_eq!(pauses.next(most), most);
    pauses.reset();
    assert_eq!(pauses.next(most), Duration::from_millis(100));
}

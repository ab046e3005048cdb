//! What only a log in memory can be asked: clocks that jump, faults, tails that are lost.
use std::time::Duration;

use sagamill_eventstore::{Append, Error, Expected, Fault, Memory, NewEvent, Position, ShardBy, Signal};

fn append(stream: &str, expected: Expected) -> Append {
    Append {
        stream: stream.into(),
        expected,
        events: vec![NewEvent::new("noted", "1")],
    }
}

#[tokio::test]
async fn an_append_whose_outcome_is_unknown_is_repeated_under_its_ids() {
    let memory = Memory::new();
    let mut faults = vec![Fault::LostAfter, Fault::LostBefore, Fault::Refused].into_iter();
    memory.on_flush(move |_| faults.next().unwrap_or_default());
    let store = memory.open();
    let first = append("note-1", Expected::NoStream);
    assert!(matches!(store.commit(first.clone()).await, Err(Error::Unknown(_))));
    assert_eq!(store.head().await.unwrap().position, Position(1));
    let second = append("note-2", Expected::NoStream);
    assert!(matches!(store.commit(second.clone()).await, Err(Error::Unknown(_))));
    assert!(matches!(
        store.commit(second.clone()).await,
        Err(Error::Unavailable { .. })
    ));
    assert_eq!(store.head().await.unwrap().position, Position(1));
    let repeated = store.commit(first).await.unwrap();
    assert!(repeated[0].repeated);
    assert_eq!(repeated[0].first, Position(1));
    assert!(!store.commit(second).await.unwrap()[0].repeated);
}

#[tokio::test(start_paused = true)]
async fn the_clock_stands_still_with_tokios_and_jumps_when_told() {
    let memory = Memory::new();
    let store = memory.open();
    let began = store.now();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(store.now().duration_since(began), jiff::SignedDuration::from_secs(60));
    let hour = jiff::SignedDuration::from_hours(1);
    let due = store.now().checked_add(hour).unwrap();
    let started = tokio::time::Instant::now();
    let (slept, ()) = tokio::join!(
        async {
            store.sleep_until(due).await;
            started.elapsed()
        },
        async { memory.jump(hour) }
    );
    assert_eq!(slept, std::time::Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_not_in_a_hurry_reads_what_came_meanwhile_at_once() {
    let memory = Memory::new();
    let store = memory.open();
    let pause = Duration::from_secs(5);
    let mut feed = store.subscribe("slow").at_most_every(pause).open().await.unwrap();
    let began = tokio::time::Instant::now();
    tokio::spawn(async move {
        for _ in 0..40 {
            store.commit(append("note-1", Expected::Any)).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let mut reads = std::collections::BTreeMap::new();
    while reads.values().sum::<u32>() < 40 {
        if let Signal::Event { .. } = feed.next().await.unwrap() {
            *reads.entry(began.elapsed().as_secs()).or_default() += 1;
        }
    }
    let times: Vec<u64> = reads.keys().copied().collect();
    assert!(times.windows(2).all(|two| two[1] - two[0] >= 5), "{reads:?}");
    assert!(reads.values().any(|events| *events > 1), "{reads:?}");
}

/// A newcomer gets its share of the shards also where their events are never done: after as long as was said, and not only
/// after a lease.
#[tokio::test(start_paused = true)]
async fn a_shard_whose_events_are_not_done_is_handed_over_in_time() {
    const LEASE: Duration = Duration::from_secs(60);
    let store = Memory::new().open();
    let open = async || {
        let subscription = store.subscribe("s").shards(2, ShardBy::Stream).lease(LEASE);
        let subscription = subscription.hand_over_within(Duration::from_millis(500));
        subscription.open().await.unwrap()
    };
    for n in 0..20 {
        store
            .commit(append(&format!("s-{n}"), Expected::NoStream))
            .await
            .unwrap();
    }
    let mut first = open().await;
    let mut seen = 0;
    while seen < 20 {
        seen += usize::from(matches!(first.next().await.unwrap(), Signal::Event { .. }));
    }
    let begun = tokio::time::Instant::now();
    let mut second = open().await;
    while !matches!(second.next().await.unwrap(), Signal::Event { .. }) {}
    // The first sees the second when it looks again, after a third of its lease, and the second what was given up soon after.
    assert!(
        begun.elapsed() < LEASE / 3 + Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

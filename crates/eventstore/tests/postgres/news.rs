//! What is new is read once, for all feeds of a store, whatever each of them asks for.

use std::time::Duration;

use sagamill_eventstore::{EventStore, Expected, NewEvent, Position, Recorded, Signal, Subscription};

use super::{append, everything, log};

/// Commits of each writer.
const COMMITS: usize = 200;

type Wants = fn(&Recorded) -> bool;

/// Commits of one to three events, some of them published, under a few types and in two categories.
async fn write(store: EventStore, writer: usize) {
    for n in 0..COMMITS {
        let stream = format!("{}-{writer}", ["order", "payment"][n % 2]);
        let event = |k: usize| NewEvent {
            topic: k.is_multiple_of(2).then(|| "news".into()),
            ..NewEvent::new(["placed", "paid", "sent"][(n + k) % 3], format!("{writer}/{n}/{k}"))
        };
        let batch = append(&stream, Expected::Any, (0..=n % 3).map(event));
        store.commit(batch).await.unwrap();
    }
}

/// What a feed hands out, until it has come to the end that is told on the way.
async fn follow(of: Subscription, mut end: tokio::sync::watch::Receiver<Option<Position>>) -> Vec<Position> {
    let mut feed = of.open().await.unwrap();
    let progress = feed.progress();
    let (mut handed, mut at) = (Vec::new(), Position(0));
    while end.borrow().is_none_or(|end| at < end) {
        tokio::select! {
            signal = feed.next() => match signal.unwrap() {
                Signal::Event { shard, event } => {
                    progress.done(shard, event.position);
                    handed.push(event.position);
                }
                Signal::CaughtUp { at: caught_up } => at = caught_up,
                _ => (),
            },
            _ = end.changed() => (),
        }
    }
    feed.close().await.unwrap();
    handed
}

#[tokio::test(flavor = "multi_thread")]
async fn each_feed_is_handed_what_it_asks_for_whoever_has_read_it() {
    let Some((store, database)) = log().await else { return };
    let store = store.any();
    // Another process, as far as the log can tell.
    let other = EventStore::connect(&database.url()).await.unwrap();
    let feeds: [(Subscription, Wants); 5] = [
        (store.subscribe("all"), |_| true),
        (store.subscribe("published").published(), |event| event.topic.is_some()),
        (store.subscribe("paid").types(["paid"]), |event| event.name == "paid"),
        (store.subscribe("payments").category("payment"), |event| {
            event.stream.category() == "payment"
        }),
        (
            store.subscribe("now and then").at_most_every(Duration::from_millis(30)),
            |_| true,
        ),
    ];
    let (tell, end) = tokio::sync::watch::channel(None);
    let (of, wants): (Vec<_>, Vec<_>) = feeds.into_iter().unzip();
    let following: Vec<_> = of.into_iter().map(|of| tokio::spawn(follow(of, end.clone()))).collect();
    let writers = [&store, &other, &store, &other].into_iter().zip(0..);
    let writers: Vec<_> = writers
        .map(|(store, n)| tokio::spawn(write(store.clone(), n)))
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    tell.send(Some(store.head().await.unwrap().position)).unwrap();
    let all = everything(&store).await;
    assert!(all.len() > 4 * COMMITS);
    for (handed, wants) in following.into_iter().zip(wants) {
        let handed = tokio::time::timeout(Duration::from_secs(30), handed).await;
        let wanted: Vec<_> = all
            .iter()
            .filter(|event| wants(event))
            .map(|event| event.position)
            .collect();
        assert_eq!(handed.unwrap().unwrap(), wanted);
    }
}

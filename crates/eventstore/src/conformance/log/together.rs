//! Many at once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use uuid::Uuid;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use super::joined::Joined;
use crate::{
    Batch, Error, EventStore, Expected, Guard, Position, Receipt, Recorded, Result, StreamId, Version,
    conformance::{Subject, append, everything, noted},
};

/// Writers that sleep, give up and roll back; readers that follow. Every reader sees each committed event once, in order,
/// and nothing else.
pub async fn readers_see_exactly_what_was_committed_in_order(subject: Arc<dyn Subject>) {
    let stores = [subject.open().await, subject.open().await];
    let others = [subject.open().await, subject.open().await];
    let stop = tokio_util::sync::CancellationToken::new();
    let readers = (0..3).map(|n| tokio::spawn(follow(others[n % 2].clone(), stop.clone())));
    let readers: Vec<_> = readers.collect();
    let writers = (0..8).map(|n| tokio::spawn(write(stores[n as usize % 2].clone(), SmallRng::seed_from_u64(n))));
    let books: Vec<Book> = join_all(writers).await.into_iter().map(Result::unwrap).collect();
    // What was given up may still be on its way; the close waits for it.
    join_all(stores.iter().map(EventStore::close)).await;
    stop.cancel();
    let events = everything(&others[0]).await;
    super::appending::check_dense(&events);
    let stored: HashSet<Uuid> = events.iter().map(|event| event.id).collect();
    for book in &books {
        assert!(
            book.stored.iter().all(|id| stored.contains(id)),
            "what was acknowledged is there"
        );
        assert!(
            book.refused.iter().all(|id| !stored.contains(id)),
            "what was rolled back is not"
        );
    }
    let known: usize = books.iter().map(|book| book.stored.len() + book.doubtful.len()).sum();
    assert!(stored.len() <= known, "nothing is there that nobody wrote");
    let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
    for reader in readers {
        assert!(reader.await.unwrap() == ids, "each reader has seen all of it");
    }
}

#[derive(Default)]
struct Book {
    stored: Vec<Uuid>,
    refused: Vec<Uuid>,
    /// Given up on its way: stored or not.
    doubtful: Vec<Uuid>,
}

async fn write(store: EventStore, mut random: SmallRng) -> Book {
    let mut book = Book::default();
    for _ in 0..30 {
        let events: Vec<_> = (0..random.random_range(1..4)).map(|_| noted("x")).collect();
        let ids = events.iter().map(|event| event.id);
        let stream = format!("s-{}", random.random_range(0..5));
        tokio::time::sleep(Duration::from_micros(random.random_range(0..2_000))).await;
        let ids = ids.collect::<Vec<_>>();
        match random.random_range(0..10) {
            0..2 => {
                let given_up = Duration::from_micros(random.random_range(0..800));
                let appended = store.commit(append(&stream, Expected::Any, events));
                match tokio::time::timeout(given_up, appended).await {
                    Ok(answer) => answer.map(|_| book.stored.extend(ids)).unwrap(),
                    Err(_) => book.doubtful.extend(ids),
                }
            }
            #[cfg(any(feature = "sqlite", feature = "postgres"))]
            2..6 if Joined::of(&store).is_some() => {
                let roll_back = random.random_bool(0.4);
                stage(&store, stream, events, roll_back).await;
                if roll_back {
                    book.refused.extend(ids)
                } else {
                    book.stored.extend(ids)
                }
            }
            _ => {
                store.commit(append(&stream, Expected::Any, events)).await.unwrap();
                book.stored.extend(ids);
            }
        }
    }
    book
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
async fn stage(store: &EventStore, stream: String, events: Vec<crate::NewEvent>, roll_back: bool) {
    let store = Joined::of(store).unwrap();
    let mut tx = store.begin().await;
    tx.stage(&store, &stream, events).await.unwrap();
    tokio::task::yield_now().await;
    if roll_back {
        drop(tx);
    } else {
        tx.commit().await.unwrap();
    }
}

/// Reads on from where it was whenever the bell rings, until all is written.
async fn follow(store: EventStore, stop: tokio_util::sync::CancellationToken) -> Vec<Uuid> {
    let mut ids = Vec::new();
    loop {
        let last = stop.is_cancelled();
        let mut read = store.read_all().from(Position(ids.len() as i64 + 1)).page(17);
        while let Some(event) = read.next().await {
            let event = event.unwrap();
            assert_eq!(event.position, Position(ids.len() as i64 + 1), "no reader skips");
            ids.push(event.id);
        }
        if last {
            return ids;
        }
        tokio::select! {
            () = store.wait_for(Position(ids.len() as i64)) => (),
            () = stop.cancelled() => (),
        }
    }
}

/// Whatever the flush: those that are stored, one after the other as they stand in the log, each found what it expected;
/// and each that was refused met a state that refuses it.
pub async fn batches_happen_in_some_order(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    for seed in 0..8 {
        let mut random = SmallRng::seed_from_u64(seed);
        let base = store.head().await.unwrap().position;
        let before = Model::of(&everything(&store).await);
        let batches: Vec<Batch> = (0..60).map(|_| group(&mut random, base)).collect();
        let answers = join_all(batches.iter().map(|batch| store.commit(batch.clone()))).await;
        check(before, &batches, &answers);
    }
    super::appending::check_dense(&everything(&store).await);
}

fn group(random: &mut SmallRng, base: Position) -> Batch {
    let mut streams: Vec<u32> = (0..random.random_range(1..4))
        .map(|_| random.random_range(0..6))
        .collect();
    streams.sort_unstable();
    streams.dedup();
    let mut expected = || match random.random_range(0..6) {
        0 => Expected::NoStream,
        1 => Expected::Exists,
        2 => Expected::Exact(Version(random.random_range(0..12))),
        _ => Expected::Any,
    };
    let appends = streams
        .iter()
        .map(|n| append(&format!("s-{n}"), expected(), [noted("x"), noted("y")]))
        .collect();
    let guarded = random.random_bool(0.3).then(|| Guard {
        stream: format!("s-{}", random.random_range(0..6)).into(),
        after: Position(base.0 + random.random_range(0..40)),
    });
    Batch {
        appends,
        guards: guarded.into_iter().collect(),
        tracking: None,
    }
}

/// Each stream's version and last position.
#[derive(Default, Clone)]
struct Model(HashMap<StreamId, (i64, Position)>);

impl Model {
    fn of(events: &[Recorded]) -> Self {
        Self(
            events
                .iter()
                .map(|event| (event.stream.clone(), (event.version.0, event.position)))
                .collect(),
        )
    }
    fn stream(&self, stream: &StreamId) -> (i64, Position) {
        self.0.get(stream).copied().unwrap_or_default()
    }
    fn takes(&self, batch: &Batch) -> bool {
        let expected = batch
            .appends
            .iter()
            .all(|append| append.expected.allows(Version(self.stream(&append.stream).0)));
        expected
            && batch
                .guards
                .iter()
                .all(|guard| self.stream(&guard.stream).1 <= guard.after)
    }
    fn store(&mut self, batch: &Batch, receipts: &[Receipt]) {
        for (append, receipt) in batch.appends.iter().zip(receipts) {
            let (version, _) = self.stream(&append.stream);
            assert_eq!(receipt.version.0, version + append.events.len() as i64);
            self.0.insert(append.stream.clone(), (receipt.version.0, receipt.last));
        }
    }
}

fn check(mut model: Model, batches: &[Batch], answers: &[Result<Vec<Receipt>>]) {
    let mut stored: Vec<_> = batches
        .iter()
        .zip(answers)
        .filter_map(|(b, a)| Some((b, a.as_ref().ok()?)))
        .collect();
    stored.sort_by_key(|(_, receipts)| receipts[0].first);
    let mut states = vec![model.clone()];
    for (batch, receipts) in stored {
        assert!(
            model.takes(batch),
            "stored though it was refused by what stood there: {batch:?}"
        );
        model.store(batch, receipts);
        states.push(model.clone());
    }
    for (batch, answer) in batches.iter().zip(answers) {
        let Err(error) = answer else { continue };
        let right = |state: &Model| match error {
            Error::Conflict { stream, actual, .. } => state.stream(stream).0 == actual.0 && !state.takes(batch),
            Error::Guarded { stream, at } => state.stream(stream).1 == *at && !state.takes(batch),
            other => panic!("{other:?}"),
        };
        assert!(
            states.iter().any(right),
            "refused though nothing stood against it: {error:?}, {batch:?}"
        );
    }
}

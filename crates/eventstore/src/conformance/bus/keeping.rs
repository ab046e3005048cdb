//! What is written down of a bus's messages, at the seam to the database.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sagamill_bus::Topic;
use uuid::Uuid;

use crate::{
    Anchor, Append, EventStore, Expected, Lease, NewEvent, Position, Signal,
    backend::{Claim, Claimed},
    backlog::{BEGUN_SPAN, Burial, Grave, Graves, Note, Open},
    conformance::{Paced, Subject},
};

fn at(position: i64) -> Anchor {
    Anchor {
        position: Position(position),
        event: Some(Uuid::from_u128(position as u128)),
    }
}
fn due(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}
fn open(position: i64, attempts: u32) -> Open {
    Open {
        at: at(position),
        key: (position % 2 == 0).then(|| "größe".to_owned()),
        attempts,
        due: due(position),
    }
}
fn burial(position: i64, message: u128, reason: &str) -> Note {
    Note::Bury(Burial {
        at: at(position),
        topic: Topic::from("order"),
        group: "inventory".to_owned(),
        message: Uuid::from_u128(message),
        attempts: 3,
        reason: reason.to_owned(),
    })
}
async fn claim(store: &EventStore, subject: &Paced, most: u16) -> Vec<Claimed> {
    let ask = Claim {
        name: "kept".to_owned(),
        shards: 2,
        owner: Uuid::new_v4(),
        ttl: subject.ttl(),
        start: Anchor::default(),
        most,
    };
    let mut claimed = store.backend().claim(&ask).await.unwrap();
    claimed.sort_by_key(|claimed| claimed.lease.shard);
    claimed
}
async fn leases(store: &EventStore, subject: &Paced) -> [Lease; 2] {
    let claimed = claim(store, subject, 2).await;
    [claimed[0].lease.clone(), claimed[1].lease.clone()]
}
async fn kept(store: &EventStore, shard: u16) -> Vec<Open> {
    store.backend().backlog("kept", shard, Position(0)).await.unwrap().open
}
async fn note(store: &EventStore, notes: &[(Lease, Note)]) -> Vec<Lease> {
    store.backend().note(notes).await.unwrap()
}
async fn graves(store: &EventStore, after: i64, message: Option<u128>) -> Vec<Grave> {
    let ask = Graves {
        topic: Topic::from("order"),
        group: "inventory".to_owned(),
        after,
        message: message.map(Uuid::from_u128),
        limit: 10,
    };
    store.backend().graves(&ask).await.unwrap()
}

/// What is noted of a shard is there for its next owner, in place of what was noted before; under a lost lease nothing is.
pub async fn notes_are_fenced_and_outlive_their_owner(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    let [zero, one] = leases(&store, subject).await;
    let keep = |lease: &Lease, open| (lease.clone(), Note::Keep(open));
    let notes = [
        keep(&zero, open(4, 1)),
        keep(&one, open(5, 1)),
        keep(&zero, open(2, 1)),
        keep(&zero, open(4, 2)),
        keep(&one, open(7, 1)),
        (one.clone(), Note::Forget(Position(5))),
        (one.clone(), Note::Forget(Position(6))),
    ];
    assert!(note(&store, &notes).await.is_empty());
    assert_eq!(kept(&store, 0).await, [open(2, 1), open(4, 2)]);
    assert_eq!(kept(&store, 1).await, [open(7, 1)]);
    store.backend().release(std::slice::from_ref(&zero)).await.unwrap();
    let heir = claim(&store, subject, 1).await.remove(0).lease;
    let notes = [
        keep(&zero, open(8, 1)),
        (zero.clone(), burial(2, 2, "late")),
        keep(&one, open(9, 1)),
        (zero.clone(), Note::Forget(Position(4))),
        keep(&heir, open(6, 1)),
    ];
    assert_eq!(note(&store, &notes).await, [zero]);
    assert_eq!(kept(&store, 0).await, [open(2, 1), open(4, 2), open(6, 1)]);
    assert_eq!(kept(&store, 1).await, [open(7, 1), open(9, 1)]);
    assert!(store.backend().graveyards().await.unwrap().is_empty());
    store.close().await;
}

/// A dead letter has a number that grows with each death; another death of the same message takes its place; it can be taken
/// away once.
pub async fn graves_are_numbered_and_taken_once(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    let [zero, one] = leases(&store, subject).await;
    let before = store.now();
    let notes = [
        (zero.clone(), Note::Keep(open(2, 1))),
        (zero.clone(), burial(2, 20, "no such sku")),
        (one.clone(), burial(3, 30, "größe")),
        (zero.clone(), burial(4, 40, "")),
    ];
    assert!(note(&store, &notes).await.is_empty());
    assert!(kept(&store, 0).await.is_empty(), "what is buried is not open");
    let all = graves(&store, i64::MIN, None).await;
    let of = |graves: &[Grave]| {
        graves
            .iter()
            .map(|grave| (grave.at, grave.reason.clone()))
            .collect::<Vec<_>>()
    };
    let reasons = [
        (at(2), "no such sku".to_owned()),
        (at(3), "größe".to_owned()),
        (at(4), String::new()),
    ];
    assert_eq!(of(&all), reasons);
    assert!(all.windows(2).all(|pair| pair[0].number < pair[1].number));
    assert!(all.iter().all(|grave| grave.attempts == 3 && grave.died >= before));
    assert_eq!(graves(&store, all[0].number, None).await, all[1..]);
    assert_eq!(graves(&store, i64::MIN, Some(30)).await, all[1..2]);
    let buried = store.backend().backlog("kept", 0, Position(2)).await.unwrap().buried;
    assert_eq!(buried, [at(4)], "of its shard, after the position");
    note(&store, &[(zero.clone(), burial(9, 20, "again"))]).await;
    let again = graves(&store, i64::MIN, Some(20)).await;
    assert_eq!(of(&again), [(at(9), "again".to_owned())]);
    assert!(again[0].number > all[2].number);
    assert!(!store.backend().exhume(all[0].number).await.unwrap());
    assert!(store.backend().exhume(again[0].number).await.unwrap());
    assert!(!store.backend().exhume(again[0].number).await.unwrap());
    let yards = store.backend().graveyards().await.unwrap();
    assert_eq!(yards, [(Topic::from("order"), "inventory".to_owned(), 2)]);
    store.backend().exhume(all[2].number).await.unwrap();
    note(&store, &[(zero, burial(10, 100, "last"))]).await;
    let last = graves(&store, again[0].number, None).await;
    assert_eq!(last.len(), 1, "no number is used twice");
    store.close().await;
}

/// An owner that gives its shard back leaves no doubt; of one that does not, what it may have begun is in doubt, and no more.
pub async fn what_a_dead_owner_may_have_begun_is_in_doubt(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    for _ in 0..3 {
        let events = (0..1_000).map(|_| NewEvent::new("noted", "")).collect();
        let append = Append {
            stream: "s".into(),
            expected: Expected::Any,
            events,
        };
        store.commit(append).await.unwrap();
    }
    let [zero, one] = leases(&store, subject).await;
    let moves = [(zero.clone(), at(10)), (one.clone(), at(2_500))];
    assert!(store.backend().save(&moves).await.unwrap().is_empty());
    store.backend().release(&[zero, one]).await.unwrap();
    let given = claim(&store, subject, 2).await;
    assert!(given.iter().all(|claimed| claimed.doubt == Position(0)), "{given:?}");
    tokio::time::sleep(subject.ttl() + Duration::from_millis(100)).await;
    let taken = claim(&store, subject, 2).await;
    let doubts: Vec<_> = taken.iter().map(|claimed| claimed.doubt.0).collect();
    assert_eq!(
        doubts,
        [10 + BEGUN_SPAN, 3_000],
        "as far as it may have come, or the log goes"
    );
    let leases: Vec<_> = taken.into_iter().map(|claimed| claimed.lease).collect();
    store.backend().release(&leases).await.unwrap();
    let again = claim(&store, subject, 2).await;
    let doubts: Vec<_> = again.iter().map(|claimed| claimed.doubt.0).collect();
    assert_eq!(
        doubts,
        [10 + BEGUN_SPAN, 3_000],
        "doubt outlives those that come and go in good order"
    );
    store.close().await;
}

/// A topic, and what a pattern stands for, are told from all others.
pub async fn a_topic_or_a_pattern_is_read_alone(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    let topics = ["a", "a.b", "a.c", "a.b.c", "b.b", "a-b", "A.b", "ab.b"];
    for topic in topics.into_iter().map(Some).chain([None]) {
        let event = NewEvent {
            topic: topic.map(Topic::from),
            ..NewEvent::new("noted", "")
        };
        let append = Append {
            stream: "s".into(),
            expected: Expected::Any,
            events: vec![event],
        };
        store.commit(append).await.unwrap();
    }
    for pattern in ["a", "a.b", "a.*", "*.b", "*", "*.*", "a.*.c", "*.*.*", "x"] {
        let pattern = Topic::from(pattern);
        let mut feed = store
            .subscribe(pattern.to_string())
            .topic(pattern.clone())
            .open()
            .await
            .unwrap();
        let mut got = Vec::new();
        loop {
            match feed.next().await.unwrap() {
                Signal::Event { event, .. } => got.push(event.topic.unwrap()),
                Signal::CaughtUp { .. } => break,
                _ => (),
            }
        }
        let wanted: Vec<_> = topics
            .into_iter()
            .map(Topic::from)
            .filter(|topic| pattern.covers(topic))
            .collect();
        assert_eq!(got, wanted, "{pattern}");
        feed.close().await.unwrap();
    }
    store.close().await;
}

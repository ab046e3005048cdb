//! What comes back.

use std::{sync::Arc, time::Duration};

use sagamill_bus::{Event, Headers, Key};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Aggregate, Error, EventStore, ExecuteError, Expected, NewEvent, Position, Recorded, Version,
    conformance::{Subject, append, collect, everything, noted},
};

/// As it was given, and where it stands.
pub async fn every_field_comes_back(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    let full = NewEvent {
        id: Uuid::now_v7(),
        name: "order.placed".to_owned(),
        schema: 7,
        topic: Some("orders".into()),
        key: Some("42 ü".to_owned()),
        correlation: Some(Uuid::now_v7()),
        causation: Some(Uuid::now_v7()),
        headers: Headers::from_iter([("traceparent", "00-1-2-01"), ("x", "\"ü\n")]),
        payload: vec![0, 255, 1].into(),
    };
    let bare = noted("");
    store
        .commit(append("order-42", Expected::Any, [full.clone(), bare.clone()]))
        .await
        .unwrap();
    let events = everything(&store).await;
    for (n, (new, stored)) in [full, bare].iter().zip(&events).enumerate() {
        let Recorded {
            position,
            stream,
            version,
            at,
            event,
            headers,
            name,
            ..
        } = stored;
        assert_eq!(
            (position.0, version.0, stream.as_str()),
            (n as i64 + 1, n as i64 + 1, "order-42")
        );
        assert_eq!((event, headers, name), (&new.payload, &new.headers, &new.name));
        assert_eq!((stored.id, stored.schema), (new.id, new.schema));
        assert_eq!((&stored.topic, &stored.key), (&new.topic, &new.key));
        assert_eq!((stored.correlation, stored.causation), (new.correlation, new.causation));
        assert_eq!(*at, events[0].at, "one append has one time");
    }
}

/// A hundred events: `a-<n % 2>`, types `t<n % 5>`, every fourth with a topic.
async fn hundred(subject: &dyn Subject) -> EventStore {
    let store = subject.open().await;
    for n in 0..100 {
        let topic = (n % 4 == 0).then(|| "news".into());
        let event = NewEvent {
            topic,
            ..NewEvent::new(format!("t{}", n % 5), n.to_string())
        };
        let stream = if n % 2 == 0 {
            "a-x".to_owned()
        } else {
            format!("ab-{n}")
        };
        store.commit(append(&stream, Expected::Any, [event])).await.unwrap();
    }
    store
}

fn positions(events: &[Recorded]) -> Vec<i64> {
    events.iter().map(|event| event.position.0).collect()
}

/// In pages of any size, with limits and ranges.
pub async fn a_stream_is_read_both_ways(subject: Arc<dyn Subject>) {
    let store = hundred(&*subject).await;
    let odd: Vec<i64> = (1..=99).step_by(2).collect();
    let back: Vec<i64> = odd.iter().rev().copied().collect();
    for page in [1, 7, 49, 50, 51, 1_000] {
        assert_eq!(positions(&collect(store.read("a-x").page(page)).await), odd);
        assert_eq!(positions(&collect(store.read("a-x").page(page).backward()).await), back);
        assert_eq!(
            positions(&collect(store.read("a-x").page(page).limit(3)).await),
            [1, 3, 5]
        );
        assert_eq!(
            positions(&collect(store.read("a-x").page(page).backward().limit(2)).await),
            [99, 97]
        );
        let middle = || store.read("a-x").page(page).from(Position(10)).to(Position(15));
        assert_eq!(positions(&collect(middle()).await), [11, 13, 15]);
        assert_eq!(positions(&collect(middle().backward()).await), [15, 13, 11]);
    }
    assert!(
        collect(store.read("a")).await.is_empty(),
        "a stream's id is the whole of it"
    );
}

/// In pages of any size, with limits and ranges.
pub async fn the_log_is_read_both_ways(subject: Arc<dyn Subject>) {
    let store = hundred(&*subject).await;
    let all: Vec<i64> = (1..=100).collect();
    let back: Vec<i64> = (1..=100).rev().collect();
    for page in [1, 7, 99, 100, 101] {
        assert_eq!(positions(&collect(store.read_all().page(page)).await), all);
        assert_eq!(positions(&collect(store.read_all().page(page).backward()).await), back);
        let middle = || store.read_all().page(page).from(Position(98)).to(Position(200));
        assert_eq!(positions(&collect(middle()).await), [98, 99, 100]);
        assert_eq!(positions(&collect(middle().backward()).await), [100, 99, 98]);
        assert_eq!(positions(&collect(middle().limit(1)).await), [98]);
    }
    assert!(collect(store.read_all().from(Position(101))).await.is_empty());
    assert!(collect(store.read_all().to(Position(0))).await.is_empty());
    assert!(collect(subject.open().await.read_all().limit(0)).await.is_empty());
}

/// Category, types, published, and all of them together.
pub async fn filters_let_through_what_they_name(subject: Arc<dyn Subject>) {
    let store = hundred(&*subject).await;
    let events = everything(&store).await;
    let only =
        |wants: fn(&Recorded) -> bool| positions(&events.iter().filter(|e| wants(e)).cloned().collect::<Vec<_>>());
    for page in [1, 3, 1_000] {
        let read = || store.read_all().page(page);
        assert_eq!(
            positions(&collect(read().category("a")).await),
            only(|e| e.stream.as_str() == "a-x")
        );
        assert_eq!(
            positions(&collect(read().category("ab")).await),
            only(|e| e.stream.as_str() != "a-x")
        );
        assert!(collect(read().category("")).await.is_empty());
        let types = collect(read().types(["t1", "t3"])).await;
        assert_eq!(positions(&types), only(|e| e.name == "t1" || e.name == "t3"));
        assert_eq!(
            positions(&collect(read().published()).await),
            only(|e| e.topic.is_some())
        );
        let all = || read().category("a").types(["t0"]).published();
        let mut wanted = only(|e| e.topic.is_some() && e.name == "t0");
        assert_eq!(positions(&collect(all()).await), wanted);
        wanted.reverse();
        assert_eq!(positions(&collect(all().backward()).await), wanted);
        let of_stream = store.read("a-x").page(page).types(["t2"]).published();
        assert_eq!(
            positions(&collect(of_stream).await),
            only(|e| e.topic.is_some() && e.name == "t2")
        );
    }
}

/// Of the log and of a stream.
pub async fn a_reading_begins_at_a_time(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    for n in 0..10 {
        store
            .commit(append(&format!("s-{}", n % 2), Expected::Any, [noted("x")]))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let events = everything(&store).await;
    let at = events[6].at;
    assert_eq!(positions(&collect(store.read_all().since(at)).await), [7, 8, 9, 10]);
    assert_eq!(
        positions(&collect(store.read_all().since(at).backward()).await),
        [10, 9, 8, 7]
    );
    assert_eq!(positions(&collect(store.read("s-1").since(at)).await), [8, 10]);
    let after = at + Duration::from_micros(1);
    assert_eq!(positions(&collect(store.read_all().since(after)).await), [8, 9, 10]);
    assert_eq!(
        positions(&collect(store.read_all().since(after).from(Position(9))).await),
        [9, 10]
    );
    assert!(
        collect(store.read_all().since(store.now() + Duration::from_secs(60)))
            .await
            .is_empty()
    );
    assert_eq!(
        collect(store.read_all().since(jiff::Timestamp::UNIX_EPOCH)).await.len(),
        10
    );
}

/// It stays inside the log.
pub async fn what_has_no_topic_is_not_published(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    let public = NewEvent {
        topic: Some("news".into()),
        ..noted("2")
    };
    store
        .commit(append("a", Expected::Any, [noted("1"), public, noted("3")]))
        .await
        .unwrap();
    assert_eq!(positions(&collect(store.read_all().published()).await), [2]);
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Account {
    Opened { owner: String },
    Moved(i64),
}
impl Event for Account {
    const NAME: &'static str = "account";
    fn key(&self) -> Option<Key> {
        None
    }
}

/// And one of another type is an error that ends the reading.
pub async fn typed_events_are_decoded(subject: Arc<dyn Subject>) {
    let store = subject.open().await;
    let events = [
        Account::Opened {
            owner: "Ada".to_owned(),
        },
        Account::Moved(5),
    ];
    let receipt = store
        .append("account-1", Expected::NoStream, events.clone())
        .await
        .unwrap();
    assert_eq!(receipt.version, Version(2));
    let read: Vec<_> = collect(store.read_as::<Account>("account-1"))
        .await
        .into_iter()
        .map(|e| e.event)
        .collect();
    assert_eq!(read, events);
    store
        .commit(append("account-1", Expected::Any, [noted("x")]))
        .await
        .unwrap();
    let mut read = store.read_as::<Account>("account-1").backward();
    assert!(matches!(read.next().await, Some(Err(Error::Codec { name, .. })) if name == "noted"));
    assert!(read.next().await.is_none());
}

#[derive(Default)]
struct Balance(i64);
#[derive(Debug, thiserror::Error)]
#[error("not enough")]
struct NotEnough;

impl Aggregate for Balance {
    const NAME: &'static str = "account";
    type Command = i64;
    type Event = Account;
    type Error = NotEnough;
    fn decide(&self, amount: i64) -> Result<Vec<Account>, NotEnough> {
        match amount {
            0 => Ok(Vec::new()),
            _ if self.0 + amount < 0 => Err(NotEnough),
            _ => Ok(vec![Account::Moved(amount)]),
        }
    }
    fn evolve(&mut self, event: Account) {
        if let Account::Moved(amount) = event {
            self.0 += amount;
        }
    }
}

/// Twenty at once, of which ten can be paid for.
pub async fn an_aggregate_is_decided_on_what_is_stored(subject: Arc<dyn Subject>) {
    let stores = [subject.open().await, subject.open().await];
    assert_eq!(stores[0].load::<Balance>("7").await.unwrap().version, None);
    assert!(matches!(stores[0].execute::<Balance>("7", 0).await, Ok(None)));
    stores[0].execute::<Balance>("7", 10).await.unwrap();
    let spend = |n: usize| stores[n % 2].execute::<Balance>("7", -1);
    let answers = futures_util::future::join_all((0..20).map(spend)).await;
    let paid = answers.iter().filter(|answer| matches!(answer, Ok(Some(_)))).count();
    let refused = answers
        .iter()
        .filter(|answer| matches!(answer, Err(ExecuteError::Refused(NotEnough))))
        .count();
    assert_eq!((paid, refused), (10, 10));
    let loaded = stores[1].load::<Balance>("7").await.unwrap();
    assert_eq!((loaded.state.0, loaded.version), (0, Some(Version(11))));
}

/// Those that wait for more.
pub async fn an_append_wakes_other_stores(subject: Arc<dyn Subject>) {
    let (store, other) = (subject.open().await, subject.open().await);
    other.wait_for(Position(-1)).await;
    for n in 0..5 {
        let waiting = tokio::spawn({
            let other = other.clone();
            async move {
                while other.head().await.unwrap().position <= Position(n) {
                    other.wait_for(Position(n)).await;
                }
            }
        });
        tokio::task::yield_now().await;
        store.commit(append("a", Expected::Any, [noted("x")])).await.unwrap();
        waiting.await.unwrap();
    }
}

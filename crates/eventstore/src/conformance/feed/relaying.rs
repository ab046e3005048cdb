//! The relay: everything with a topic reaches the bus, in order per key, and nothing else does.

use std::{collections::BTreeMap, sync::Arc};

use sagamill_bus::{Error, MessageId, headers::name};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    Paced,
    transport::{Published, Recorder},
};
use crate::{
    Append, EventStore, Expected, NewEvent, Position, Relay, Result,
    conformance::{Subject, stall::Stall},
};

/// Appends so many events to be published, over 8 streams.
async fn fill(store: &EventStore, events: usize) {
    for n in 0..events {
        append(store, &format!("order-{}", n % 8), Some("order"), "order.placed").await;
    }
}
async fn append(store: &EventStore, stream: &str, topic: Option<&'static str>, name: &str) -> NewEvent {
    let event = NewEvent {
        topic: topic.map(Into::into),
        ..NewEvent::new(name, &b"{}"[..])
    };
    let append = Append {
        stream: stream.into(),
        expected: Expected::Any,
        events: vec![event.clone()],
    };
    store.commit(append).await.unwrap();
    event
}

/// A relay in a task of its own, as a process has it.
struct Running {
    task: JoinHandle<Result<()>>,
    stop: oneshot::Sender<()>,
}

impl Running {
    fn start(relay: Relay) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(relay.run(async { stopped.await.unwrap_or_default() }));
        Self { task, stop }
    }
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn relay(store: &EventStore, recorder: &Recorder, subject: &Paced) -> Relay {
    Relay::new(store, &recorder.bus())
        .lease(subject.ttl())
        .drain(subject.ttl() / 20)
}

async fn until(recorder: &Recorder, done: impl Fn(&[Published]) -> bool) {
    while !done(&recorder.published()) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
fn versions(of: &Published) -> (String, i64) {
    let key = of.1.key.as_ref().unwrap().0.to_string();
    let (_, version) = of.1.headers.get(name::SEQUENCE).unwrap().split_once('.').unwrap();
    (key, version.parse().unwrap())
}
/// First deliveries, by key, in the order in which they came.
fn firsts(published: &[Published]) -> BTreeMap<String, Vec<i64>> {
    let mut firsts: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (key, version) in published.iter().map(versions) {
        let seen = firsts.entry(key).or_default();
        if !seen.contains(&version) {
            seen.push(version);
        }
    }
    firsts
}
fn assert_in_order(published: &[Published], keys: usize, each: i64) {
    let firsts = firsts(published);
    assert_eq!(firsts.len(), keys);
    firsts
        .values()
        .for_each(|seen| assert_eq!(*seen, (1..=each).collect::<Vec<_>>()));
}
async fn checkpoint(store: &EventStore) -> Position {
    let all = store.checkpoints().await.unwrap();
    all.into_iter()
        .filter(|of| of.name == "relay")
        .map(|of| of.at.position)
        .min()
        .unwrap_or_default()
}

/// What has no topic stays inside; what has one travels as it is, with its place in the log.
pub async fn relay_publishes_what_has_a_topic_and_nothing_else(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    let recorder = Recorder::new(true, |_| None);
    append(&store, "saga-1", None, "saga.started").await;
    let event = append(&store, "order-1", Some("order"), "order.placed").await;
    for _ in 0..20 {
        append(&store, "import-1", None, "order.placed").await;
    }
    let relay = Running::start(Relay::new(&store, &recorder.bus()).source("shop").lease(subject.ttl()));
    let last = append(&store, "payment-1", Some("payment"), "payment.captured").await;
    until(&recorder, |published| published.len() == 2).await;
    relay.stop().await;
    let mut published = recorder.published();
    // Different keys: either may come first.
    published.sort_by_key(|(topic, _)| topic.clone());
    let ids: Vec<_> = published
        .iter()
        .map(|(topic, message)| (topic.as_str(), message.id))
        .collect();
    assert_eq!(ids, [("order", MessageId(event.id)), ("payment", MessageId(last.id))]);
    let headers = &published[0].1.headers;
    assert_eq!(headers.get(name::SOURCE), Some("shop"));
    assert_eq!(headers.get(name::SEQUENCE), Some("2.1"));
    assert_eq!(headers.get(name::LOG), Some(store.log_id().to_string().as_str()));
    assert_eq!(
        checkpoint(&store).await,
        Position(23),
        "the checkpoint passes over what is not published"
    );
    store.close().await;
}

/// Every seventh publish is refused: repeats may come, but what comes first comes in order, per key.
pub async fn refused_publishes_keep_the_order_of_first_deliveries(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    fill(&store, 160).await;
    let mut count = 0;
    let recorder = Recorder::new(true, move |_| {
        count += 1;
        (count % 7 == 0).then(|| Error::Unconfirmed("refused by the test".into()))
    });
    let running = Running::start(relay(&store, &recorder, subject));
    fill(&store, 80).await;
    until(&recorder, |published| published.len() == 240).await;
    running.stop().await;
    assert_in_order(&recorder.published(), 8, 30);
    assert!(recorder.largest_batch() > 1, "messages of different keys share a call");
    assert_eq!(checkpoint(&store).await, Position(240));
    store.close().await;
}

/// A message that nobody takes holds its key, for as long as it lasts, and no other.
pub async fn command_without_a_subscriber_holds_its_key_alone(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    let mut tries = 0;
    let recorder = Recorder::new(true, move |message| {
        let absent = message.key.as_ref().is_some_and(|key| key.0 == "order-3") && tries < 3;
        tries += i32::from(absent);
        absent.then(|| Error::NoSubscriber {
            topic: "order".to_owned(),
        })
    });
    fill(&store, 80).await;
    let running = Running::start(relay(&store, &recorder, subject));
    until(&recorder, |published| published.len() == 80).await;
    running.stop().await;
    let published = recorder.published();
    assert_in_order(&published, 8, 10);
    assert!(
        published[..70]
            .iter()
            .all(|published| versions(published).0 != "order-3"),
        "the others did not wait"
    );
    store.close().await;
}

/// Over a transport that is not durable, only what was settled counts: killed at any point, the next relay begins with
/// exactly what was not, and nothing is lost.
pub async fn killed_relay_repeats_what_was_not_settled_and_loses_nothing(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    fill(&store, 16).await;
    let mut settled: Vec<MessageId> = Vec::new();
    for round in 0..20 {
        fill(&store, 1 + round % 3).await;
        let recorder = Recorder::new(false, |_| None);
        let running = Running::start(relay(&store, &recorder, subject));
        until(&recorder, |published| !published.is_empty()).await;
        let keys: Vec<_> = recorder
            .published()
            .iter()
            .map(|published| versions(published).0)
            .collect();
        assert!(
            (1..keys.len()).all(|n| !keys[..n].contains(&keys[n])),
            "one of a key is unsettled at a time: {keys:?}"
        );
        recorder.settle(round % 5);
        // It goes on where it may, by as many turns as the round says.
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        if round % 3 == 0 {
            running.stop().await
        } else {
            running.kill().await
        }
        let published = recorder.published();
        settled.extend(published.iter().take(round % 5).map(|(_, message)| message.id));
        let low = checkpoint(&store).await;
        let passed = ids(&store, low).await;
        assert!(
            passed.iter().all(|id| settled.contains(id)),
            "checkpoint {low} passed an event that was not settled"
        );
    }
    let recorder = Recorder::new(false, |_| None);
    recorder.settle(usize::MAX);
    let running = Running::start(relay(&store, &recorder, subject));
    let all = ids(&store, Position(i64::MAX)).await;
    let known = |published: &[Published], id| settled.contains(id) || published.iter().any(|(_, of)| of.id == *id);
    until(&recorder, |published| all.iter().all(|id| known(published, id))).await;
    running.stop().await;
    assert_eq!(checkpoint(&store).await.0, all.len() as i64);
    store.close().await;
}
/// The ids of the first events of the log.
async fn ids(store: &EventStore, up_to: Position) -> Vec<MessageId> {
    let mut read = store.read_all().to(up_to);
    let mut ids = Vec::new();
    while let Some(event) = read.next().await {
        ids.push(MessageId(event.unwrap().id));
    }
    ids
}

/// Stopped for longer than its lease, a relay publishes nothing under it when it goes on; the other one has published all.
pub async fn paused_relay_publishes_nothing_under_a_lost_lease(subject: Arc<dyn Subject>) {
    let subject = &Paced::of(subject);
    let store = subject.open().await;
    fill(&store, 8).await;
    let (mine, other) = (Recorder::new(false, |_| None), Recorder::new(true, |_| None));
    let stall = Stall::of(&store);
    let paused = Running::start(Relay::over(stall.clone(), mine.bus()).lease(subject.ttl()));
    until(&mine, |published| published.len() == 8).await;
    fill(&store, 16).await;
    stall.stop(true);
    let heir = Running::start(Relay::new(&subject.open().await, &other.bus()).lease(subject.ttl()));
    until(&other, |published| published.len() == 24).await;
    // It learns that its first publishes are settled, and would go on with the next ones.
    mine.settle(usize::MAX);
    tokio::time::sleep(subject.ttl() / 3).await;
    assert_eq!(mine.published().len(), 8);
    stall.stop(false);
    tokio::time::sleep(subject.ttl() / 3).await;
    assert_eq!(mine.published().len(), 8);
    heir.stop().await;
    paused.kill().await;
    assert_in_order(&other.published(), 8, 3);
    assert_eq!(checkpoint(&store).await, Position(24));
    store.close().await;
}

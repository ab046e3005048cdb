//! A failover to a standby that lags: events that were acknowledged are gone. Whoever has read them says so and stops, and
//! goes on when an operator has said how; nobody passes over anything in silence.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use sagamill_bus::{BoxError, Bus, Start, Subscribe};
use sagamill_eventstore::{
    Error, EventStore, Expected, LogTransport, Memory, NewEvent, Position, Relay, ShardBy, Version,
};
use sagamill_testkit::{
    Proxy,
    postgres::{Database, Own, Standby, own},
};
use tokio::{task::JoinHandle, time::timeout};
use uuid::Uuid;

use super::{append, check_dense, everything, noted};

const PATIENCE: Duration = Duration::from_secs(60);
/// Short, so that those who have nothing to read look soon whether their log is still the same.
const LEASE: Duration = Duration::from_secs(2);
const TOPIC: &str = "order";
/// Events that the standby has, and events that it lacks.
const KEPT: usize = 20;
const LOST: usize = 10;
/// How many are appended when all is well again.
const AFTER: usize = 5;

/// A primary, its standby, and one address that leads to whichever of them is in charge.
struct Pair {
    primary: Own,
    standby: Standby,
    network: Proxy,
    database: Database,
}

impl Pair {
    async fn start() -> Option<Self> {
        let primary = own().await?;
        let database = primary.database("log").await.unwrap();
        let network = Proxy::start(database.url()).await.unwrap();
        let standby = primary.standby().await.unwrap();
        Some(Self {
            primary,
            standby,
            network,
            database,
        })
    }
    async fn open(&self) -> EventStore {
        EventStore::connect(&self.network.url()).await.unwrap()
    }
    /// What is committed from now on will be lost.
    async fn lag(&self) {
        self.standby.caught_up().await.unwrap();
        self.standby.detach().await.unwrap();
    }
    /// The primary is gone and the standby in charge. Nobody reaches it yet but by its own URL, which is given.
    async fn fail_over(self) -> (Promoted, String) {
        self.network.cut();
        self.primary.kill().await.unwrap();
        let server = self.standby.promote().await.unwrap();
        self.network.lead_to(server.url()).unwrap();
        let (before, _) = server.url().rsplit_once('/').unwrap();
        let url = format!("{before}/{}", self.database.name());
        let network = self.network;
        (
            Promoted {
                network,
                _server: server,
            },
            url,
        )
    }
}

struct Promoted {
    network: Proxy,
    _server: Own,
}

/// Appends so many events that are published, and gives their ids: they are acknowledged.
async fn fill(store: &EventStore, events: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for n in 0..events {
        let event = NewEvent {
            topic: Some(TOPIC.into()),
            ..noted("x")
        };
        ids.push(event.id);
        let stream = format!("order-{}", n % 8);
        store.commit(append(&stream, Expected::Any, [event])).await.unwrap();
    }
    ids
}
async fn ids<D>(store: &EventStore<D>) -> Vec<Uuid> {
    everything(store).await.iter().map(|event| event.id).collect()
}

type Seen = Arc<Mutex<Vec<Uuid>>>;
type Ended = Result<(), BoxError>;

/// What reads the log on and on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Subscription,
    Relay,
    Group,
}

/// One of them at work, by itself in a store of its own, as in a process of its own.
struct Consumer {
    kind: Kind,
    seen: Seen,
    task: JoinHandle<Ended>,
}

impl Kind {
    /// The name by which an operator knows it.
    fn name(self) -> &'static str {
        match self {
            Self::Subscription => "reader",
            Self::Relay => "relay",
            Self::Group => "bus/order/stock",
        }
    }
    fn start(self, store: EventStore, elsewhere: &Bus) -> Consumer {
        let seen = Seen::default();
        let (of, bus) = (seen.clone(), elsewhere.clone());
        let task = match self {
            Self::Subscription => tokio::spawn(read(store, of)),
            Self::Relay => tokio::spawn(relay(store, bus, of)),
            Self::Group => tokio::spawn(take(store, of)),
        };
        Consumer { kind: self, seen, task }
    }
}

async fn read(store: EventStore, seen: Seen) -> Ended {
    let handler = move |event: sagamill_eventstore::Recorded| {
        seen.lock().unwrap().push(event.id);
        let done: futures_core::future::BoxFuture<'static, Result<(), BoxError>> = Box::pin(async { Ok(()) });
        done
    };
    let subscription = store.subscribe("reader").shards(4, ShardBy::Stream).lease(LEASE);
    Ok(subscription.run(handler, std::future::pending()).await?)
}
async fn relay(store: EventStore, bus: Bus, seen: Seen) -> Ended {
    // Whoever listens there: what is published is what it hears.
    let listener = Subscribe::new(TOPIC, Uuid::now_v7().to_string()).start(Start::Latest);
    let mut heard = bus.subscribe(listener).await?;
    let listening = async {
        while let Some(delivery) = heard.next().await {
            let delivery = delivery?;
            seen.lock().unwrap().push(delivery.message.id.0);
            delivery.ack().await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = Relay::new(&store, &bus).lease(LEASE).run(std::future::pending()) => Ok(ended?),
        ended = listening => ended,
    }
}
async fn take(store: EventStore, seen: Seen) -> Ended {
    let bus = Bus::new(LogTransport::new(&store).lease(LEASE));
    let mut deliveries = bus.subscribe(Subscribe::new(TOPIC, "stock")).await?;
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        seen.lock().unwrap().push(delivery.message.id.0);
        delivery.ack().await?;
    }
    Ok(())
}

impl Consumer {
    fn seen(&self) -> Vec<Uuid> {
        self.seen.lock().unwrap().clone()
    }
    /// Waits until it has had all of these.
    async fn has(&self, all: &[Uuid]) {
        let has = async {
            loop {
                assert!(!self.task.is_finished(), "{:?} has ended", self.kind);
                let seen: HashSet<Uuid> = self.seen().into_iter().collect();
                if all.iter().all(|id| seen.contains(id)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, has)
            .await
            .unwrap_or_else(|_| panic!("{:?}", self.kind));
    }
    /// Waits until it ends, which it does because its log went another way. Gives what it has had.
    async fn diverges(self, when: &str) -> Vec<Uuid> {
        let Self { kind, seen, task } = self;
        let ended = timeout(PATIENCE, task).await;
        let ended =
            ended.unwrap_or_else(|_| panic!("{kind:?} goes on, {when}, and has had {:?}", seen.lock().unwrap()));
        let ended = ended.unwrap();
        let error = ended.expect_err("it cannot end well");
        assert!(is_diverged(&*error, kind.name()), "{kind:?}: {error:?}");
        let seen = seen.lock().unwrap();
        seen.clone()
    }
    fn stop(self) {
        self.task.abort();
    }
}

/// Whether that is what an error says, whatever it is wrapped in.
fn is_diverged(error: &(dyn std::error::Error + 'static), subscription: &str) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Error::LogDiverged { name, .. }) = error.downcast_ref() {
            return name == subscription;
        }
        next = error.source();
    }
    false
}

/// What an operator decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Rewind,
    Accept,
}

/// All consumers through a failover that loses what they have had, after which others have appended so many events before
/// anybody looks; and on again.
async fn play(grown: usize, verb: Verb) {
    let Some(pair) = Pair::start().await else { return };
    let elsewhere = Memory::new().open().bus();
    let kinds = [Kind::Subscription, Kind::Relay, Kind::Group];
    let store = pair.open().await;
    let mut consumers = Vec::new();
    for kind in kinds {
        consumers.push(kind.start(pair.open().await, &elsewhere));
    }
    let kept = fill(&store, KEPT).await;
    for consumer in &consumers {
        consumer.has(&kept).await;
    }
    pair.lag().await;
    let lost = fill(&store, LOST).await;
    for consumer in &consumers {
        consumer.has(&lost).await;
    }
    let (promoted, url) = pair.fail_over().await;
    let late = EventStore::connect(&url).await.unwrap();
    assert_eq!(ids(&late).await, kept, "what was acknowledged last is gone");
    fill(&late, grown).await;

    promoted.network.heal();
    let old: HashSet<Uuid> = kept.iter().chain(&lost).copied().collect();
    for consumer in consumers {
        let kind = consumer.kind;
        let seen: HashSet<Uuid> = consumer.diverges("at work").await.into_iter().collect();
        assert_eq!(seen, old, "{kind:?}: nothing of the other history is handed out");
    }
    // Whoever is started again by a supervisor that knows nothing finds it as it was.
    for kind in kinds {
        let seen = kind.start(store.clone(), &elsewhere).diverges("started again").await;
        assert!(seen.is_empty(), "{kind:?}: {seen:?}");
    }
    check_dense(&everything(&late).await);
    go_on(&store, &elsewhere, verb).await;
    promoted.network.cut();
}

/// The operator's verb, and what it promises.
async fn go_on(store: &EventStore, elsewhere: &Bus, verb: Verb) {
    let passed = store.head().await.unwrap().position.0.min((KEPT + LOST) as i64);
    for kind in [Kind::Subscription, Kind::Relay, Kind::Group] {
        let moved = match verb {
            Verb::Rewind => store.rewind(kind.name()).await.unwrap(),
            Verb::Accept => store.accept(kind.name()).await.unwrap(),
        };
        assert!(moved > 0, "{kind:?}");
        let consumer = kind.start(store.clone(), elsewhere);
        fill(store, AFTER).await;
        let all = ids(store).await;
        let promised = match verb {
            Verb::Rewind => &all[KEPT..],
            Verb::Accept => &all[passed as usize..],
        };
        consumer.has(promised).await;
        if verb == Verb::Accept {
            let skipped: HashSet<Uuid> = all[..passed as usize].iter().copied().collect();
            let seen = consumer.seen();
            assert!(seen.iter().all(|id| !skipped.contains(id)), "{kind:?}: {seen:?}");
        }
        consumer.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_read_a_lost_tail_stop_and_go_on_after_a_rewind() {
    play(0, Verb::Rewind).await;
}

/// The positions are all there again, with other events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_has_grown_beyond_its_lost_tail_is_noticed_all_the_same() {
    play(LOST + 5, Verb::Rewind).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_is_gone_on_with_where_it_is_accepted() {
    play(LOST + 5, Verb::Accept).await;
}

/// They began after the standby was left behind, so that with the tail their leases and checkpoints are gone as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_whose_leases_are_lost_with_the_tail_do_not_begin_anew_in_silence() {
    let Some(pair) = Pair::start().await else { return };
    let elsewhere = Memory::new().open().bus();
    let store = pair.open().await;
    let mut had = fill(&store, KEPT).await;
    pair.lag().await;
    let mut consumers = Vec::new();
    for kind in [Kind::Subscription, Kind::Relay, Kind::Group] {
        consumers.push(kind.start(pair.open().await, &elsewhere));
    }
    had.extend(fill(&store, LOST).await);
    for consumer in &consumers {
        consumer.has(&had).await;
    }
    let (promoted, url) = pair.fail_over().await;
    fill(&EventStore::connect(&url).await.unwrap(), LOST + 5).await;
    promoted.network.heal();
    for consumer in consumers {
        let kind = consumer.kind;
        let mut seen = consumer.diverges("at work").await;
        seen.sort_unstable();
        had.sort_unstable();
        assert_eq!(seen, had, "{kind:?}: each once, and nothing of the other history");
    }
    promoted.network.cut();
}

/// The head is at the position that the writer remembers, with another event: it looks again, and is told what it finds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_whose_head_is_lost_leaves_no_hole() {
    let Some(pair) = Pair::start().await else { return };
    let store = pair.open().await;
    let write = async |version: i64| {
        let next = append("s-1", Expected::Exact(Version(version)), [noted("mine")]);
        store.commit(next).await
    };
    for version in 0..4 {
        if version == 2 {
            pair.lag().await;
        }
        write(version).await.unwrap();
    }
    let (promoted, url) = pair.fail_over().await;
    let late = EventStore::connect(&url).await.unwrap();
    for n in 0..2 {
        late.commit(append(&format!("foreign-{n}"), Expected::NoStream, [noted("theirs")]))
            .await
            .unwrap();
    }
    promoted.network.heal();
    let told = write(4).await;
    let Err(Error::Conflict { stream, actual, .. }) = told else {
        panic!("{told:?}")
    };
    assert_eq!((stream.as_str(), actual), ("s-1", Version(2)));
    let receipt = write(2).await.unwrap()[0];
    assert_eq!((receipt.first, receipt.version), (Position(5), Version(3)));
    check_dense(&everything(&late).await);
}

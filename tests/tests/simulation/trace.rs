//! All that can be seen of a schedule, line by line with the virtual time: two runs of a seed must write the same.

use std::{
    fmt::Display,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures_core::{Stream, future::BoxFuture};
use sagamill::{
    bus::{
        self, Bus, Capabilities, Deliveries, Delivery, Message, Receipt, Settle, Settlement, Subscribe, Topic,
        Transport,
    },
    eventstore::EventStore,
};
use tokio::time::Instant;

/// What was seen. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Trace {
    began: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            lines: Arc::default(),
        }
    }
    /// Adds a line.
    pub(crate) fn note(&self, what: impl Display) {
        let line = format!("{:?} {what}", self.began.elapsed());
        self.lines
            .lock()
            .expect("invariant: no panic under this lock")
            .push(line);
    }
    /// A connection whose messages, deliveries and settlements are seen.
    pub(crate) fn tap(&self, bus: Bus) -> Bus {
        let trace = self.clone();
        Bus::new(Tap { bus, trace })
    }
    /// Adds all that a log holds: its events, and how far each subscription is, and who has it.
    pub(crate) async fn take_log(&self, store: &EventStore) {
        self.note(format_args!("log {}", store.log_id()));
        let mut events = store.read_all();
        while let Some(event) = events.next().await {
            self.note(format_args!("{:?}", event.expect("the log can be read")));
        }
        for checkpoint in store.checkpoints().await.expect("the log answers") {
            self.note(format_args!("{checkpoint:?}"));
        }
    }
    /// What was seen so far.
    pub(crate) fn record(&self) -> Record {
        Record(self.lines.lock().expect("invariant: no panic under this lock").clone())
    }
}

/// All that was seen of one run.
pub(crate) struct Record(Vec<String>);

impl Record {
    /// Sixteen digits that are the same where all lines are: in each run, in each process.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hash = DefaultHasher::new();
        self.0.hash(&mut hash);
        format!("{:016x}", hash.finish())
    }
    /// Where another run of the same seed went another way.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let lines = self.0.len().max(other.0.len());
        let at = (0..lines).find(|line| self.0.get(*line) != other.0.get(*line))?;
        let near = |record: &Self| {
            record
                .0
                .iter()
                .skip(at.saturating_sub(3))
                .take(6)
                .cloned()
                .collect::<Vec<_>>()
        };
        Some(format!(
            "line {at} differs:\n  {}\nthe other time:\n  {}",
            near(self).join("\n  "),
            near(other).join("\n  ")
        ))
    }
    /// Writes it down, to be held against another one line by line.
    pub(crate) fn write(&self, path: impl AsRef<Path>) {
        std::fs::write(path, self.0.join("\n")).expect("the file can be written");
    }
}

/// A connection that notes what passes.
struct Tap {
    bus: Bus,
    trace: Trace,
}

impl Tap {
    fn sent(&self, topic: &Topic, batch: &[Message]) -> Vec<String> {
        let ids = batch.iter().map(|message| message.id.to_string()).collect();
        for message in batch {
            self.trace.note(format_args!("publish to {topic}: {message:?}"));
        }
        ids
    }
    fn answered(&self, ids: &[String], results: &[bus::Result<Receipt>]) {
        for (id, result) in ids.iter().zip(results) {
            self.trace.note(format_args!("published {id}: {result:?}"));
        }
    }
}

impl Transport for Tap {
    fn name(&self) -> &'static str {
        self.bus.transport()
    }
    fn capabilities(&self) -> Capabilities {
        self.bus.capabilities()
    }
    async fn publish(&self, topic: &Topic, batch: Vec<Message>) -> Vec<bus::Result<Receipt>> {
        let ids = self.sent(topic, &batch);
        let results = self.bus.publish_each(topic, batch).await;
        self.answered(&ids, &results);
        results
    }
    async fn publish_settled(&self, topic: &Topic, batch: Vec<Message>) -> Vec<bus::Result<Receipt>> {
        let ids = self.sent(topic, &batch);
        let results = self.bus.publish_settled(topic, batch).await;
        self.answered(&ids, &results);
        results
    }
    async fn subscribe(&self, request: Subscribe) -> bus::Result<Deliveries> {
        let group = request.group.clone();
        self.trace.note(format_args!("subscribe {group} to {}", request.topic));
        let deliveries = self.bus.subscribe(request).await?;
        let trace = self.trace.clone();
        Ok(Box::pin(Tapped {
            deliveries,
            group,
            trace,
        }))
    }
    async fn close(&self) -> bus::Result<()> {
        self.bus.clone().close().await
    }
}

/// A subscription that notes what is delivered.
struct Tapped {
    deliveries: Deliveries,
    group: String,
    trace: Trace,
}

impl Stream for Tapped {
    type Item = bus::Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Poll::Ready(next) = self.deliveries.as_mut().poll_next(cx) else {
            return Poll::Pending;
        };
        Poll::Ready(next.map(|delivery| {
            let delivery = delivery?;
            let (message, topic, attempt) = (delivery.message.clone(), delivery.topic.clone(), delivery.attempt);
            let name = format!("{} to {}, attempt {attempt}", message.id, self.group);
            self.trace.note(format_args!("deliver {name}"));
            let settle = TappedDelivery {
                delivery,
                name,
                trace: self.trace.clone(),
            };
            Ok(Delivery::new(message, topic, attempt, settle))
        }))
    }
}

/// A delivery that notes how it ends.
struct TappedDelivery {
    delivery: Delivery,
    name: String,
    trace: Trace,
}

impl Settle for TappedDelivery {
    fn settle(self: Box<Self>, settlement: Settlement) -> BoxFuture<'static, bus::Result<()>> {
        Box::pin(async move {
            let what = format!("{settlement:?}");
            let settled = self.delivery.settle(settlement).await;
            self.trace
                .note(format_args!("settle {} by {what}: {settled:?}", self.name));
            settled
        })
    }
    fn dropped(self: Box<Self>) {
        self.trace.note(format_args!("drop {}", self.name));
    }
}

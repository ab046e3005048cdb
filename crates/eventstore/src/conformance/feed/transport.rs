//! A transport that writes down what is published, and answers as the test says.

use std::sync::{Arc, Mutex, MutexGuard};

use sagamill_bus::{Bus, Capabilities, Deliveries, Error, Message, Receipt, Result, Subscribe, Topic, Transport};
use tokio::sync::watch;

/// What was published: topic, message.
pub(super) type Published = (String, Message);

type Refuse = Box<dyn FnMut(&Message) -> Option<Error> + Send>;

/// Keeps a record of each publish that it did not refuse. Without `durable`, it confirms when the test settles.
#[derive(Clone)]
pub(super) struct Recorder {
    record: Arc<Mutex<Record>>,
    durable: bool,
    /// So many publishes may be settled.
    settled: Arc<watch::Sender<usize>>,
}

struct Record {
    published: Vec<Published>,
    refuse: Refuse,
    /// The most messages that came in one call.
    batch: usize,
}

impl Recorder {
    pub(super) fn new(durable: bool, refuse: impl FnMut(&Message) -> Option<Error> + Send + 'static) -> Self {
        let record = Record {
            published: Vec::new(),
            refuse: Box::new(refuse),
            batch: 0,
        };
        let settled = Arc::new(watch::Sender::new(if durable { usize::MAX } else { 0 }));
        Self {
            record: Arc::new(Mutex::new(record)),
            durable,
            settled,
        }
    }
    pub(super) fn bus(&self) -> Bus {
        Bus::new(self.clone())
    }
    pub(super) fn published(&self) -> Vec<Published> {
        self.record().published.clone()
    }
    /// How many messages of those that were published are settled.
    pub(super) fn settle(&self, count: usize) {
        self.settled.send_replace(count);
    }
    pub(super) fn largest_batch(&self) -> usize {
        self.record().batch
    }
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }
    fn note(&self, batch: usize) {
        let mut record = self.record();
        record.batch = record.batch.max(batch);
    }
    /// Its place among all that were published.
    fn take(&self, topic: &Topic, message: Message) -> Result<usize> {
        let mut record = self.record();
        if let Some(error) = (record.refuse)(&message) {
            return Err(error);
        }
        record.published.push((topic.to_string(), message));
        Ok(record.published.len())
    }
}

impl Transport for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }
    fn capabilities(&self) -> Capabilities {
        let mut promises = Capabilities::default();
        promises.durable = self.durable;
        promises
    }
    async fn publish(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        self.note(batch.len());
        // A broker answers later, when others have had their turn.
        tokio::task::yield_now().await;
        batch
            .into_iter()
            .map(|message| self.take(topic, message).map(|_| Receipt::default()))
            .collect()
    }
    async fn publish_settled(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        if self.durable {
            return self.publish(topic, batch).await;
        }
        assert_eq!(batch.len(), 1, "each message settles by itself");
        let mut settled = self.settled.subscribe();
        let mut results = Vec::new();
        for message in batch {
            let place = self.take(topic, message);
            if let Ok(place) = place {
                settled
                    .wait_for(|settled| *settled >= place)
                    .await
                    .expect("invariant: the sender is in `self`");
            }
            results.push(place.map(|_| Receipt::default()));
        }
        results
    }
    async fn subscribe(&self, _request: Subscribe) -> Result<Deliveries> {
        Err(Error::Unsupported {
            transport: "recorder",
            wanted: "subscriptions",
        })
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

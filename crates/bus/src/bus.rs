//! A connection to a broker, and the registry that a URL picks it from.

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_core::future::BoxFuture;
use tokio::time::Instant;
use tracing::Instrument;

use crate::transport::DynTransport;
use crate::{
    Capabilities, Command, DeadLetterQueue, DeadLetterStore, DeadLetters, Deliveries, Error, Event, Message, Receipt,
    Result, Subscribe, Topic, Transport, codec, command_topic, memory::Memory, metric_definitions, trace_context,
};

/// A connection to a broker. Cheap to clone.
#[derive(Clone)]
pub struct Bus(pub(crate) Arc<dyn DynTransport>);

/// A bus seen by one consumer group: its members share the messages.
#[derive(Debug, Clone)]
pub struct Group {
    pub(crate) bus: Bus,
    pub(crate) name: String,
}

impl Bus {
    /// Connects to the broker that the URL names, of those this crate knows: `memory:`; `kafka://`, `nats://` and
    /// `amqp://` with the features of these names, `amqps://` with `amqp-tls`.
    ///
    /// # Errors
    /// [`Error::UnknownScheme`] or [`Error::FeatureOff`] where no transport answers to the URL.
    pub async fn connect(url: &str) -> Result<Self> {
        Transports::default().connect(url).await
    }
    /// The transport inside this process: ordered, bounded, with groups; the reference for all others.
    /// Each call makes one of its own; [`Memory`] makes several connections to one.
    #[must_use]
    pub fn memory() -> Self {
        Memory::new().connect()
    }
    /// Takes a transport of one's own, or one built from a client that exists already.
    pub fn new(transport: impl Transport) -> Self {
        Self(Arc::new(transport))
    }
    /// The bus as one consumer group sees it.
    pub fn group(&self, name: impl Into<String>) -> Group {
        Group {
            bus: self.clone(),
            name: name.into(),
        }
    }
    /// Its transport's name.
    pub fn transport(&self) -> &'static str {
        self.0.name()
    }
    /// What its transport can promise.
    pub fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
    /// Publishes an event to its own topic; returns when the broker has confirmed it.
    ///
    /// # Errors
    /// [`Error::Codec`] where it cannot be written, [`Error::NotPublished`] where its type has no topic, else what the
    /// transport says of it.
    pub async fn publish<E: Event>(&self, event: &E) -> Result<Receipt> {
        let topic = E::topic().ok_or(Error::NotPublished { event: E::NAME })?;
        let mut results = self.publish_each(&topic, vec![codec::message(event)?]).await;
        results.pop().expect("invariant: one result for each message")
    }
    /// Sends a command to its service, and awaits no answer; returns when the broker has confirmed it.
    ///
    /// # Errors
    /// [`Error::Codec`] where it cannot be written, [`Error::NoSubscriber`] where nobody would get it, else what the
    /// transport says of it.
    pub async fn send<C: Command>(&self, command: &C) -> Result<Receipt> {
        let topic = command_topic(C::NAME).into();
        let mut results = self.publish_each(&topic, vec![codec::command(command)?]).await;
        results.pop().expect("invariant: one result for each message")
    }
    /// Publishes messages as they are; fails with the first one's error.
    ///
    /// # Errors
    /// What the transport says of the first message that failed; others may have been published.
    pub async fn publish_to(
        &self,
        topic: impl Into<Topic>,
        batch: impl IntoIterator<Item = Message>,
    ) -> Result<Vec<Receipt>> {
        self.publish_each(&topic.into(), batch.into_iter().collect())
            .await
            .into_iter()
            .collect()
    }
    /// Publishes messages as they are, one result for each, in their order. A message without a valid `traceparent` gets
    /// one; a message beyond the [limits](crate::limit) fails alone.
    pub async fn publish_each(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        self.deliver(topic, batch, Until::Confirmed).await
    }
    /// Publishes, and returns when each message is safe without its publisher: see [`Transport::publish_settled`].
    pub async fn publish_settled(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        self.deliver(topic, batch, Until::Settled).await
    }
    /// Subscribes without a router: each delivery is the caller's to settle.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where more is asked than the transport promises.
    pub async fn subscribe(&self, request: Subscribe) -> Result<Deliveries> {
        self.capabilities().check(self.transport(), &request)?;
        self.0.subscribe(request).await
    }
    /// What a group gave up of a topic.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the transport keeps no dead letters.
    pub fn dead_letters(&self, topic: impl Into<Topic>, group: impl Into<String>) -> Result<DeadLetters> {
        Ok(DeadLetters::new(self.dead_letter_store()?, topic.into(), group.into()))
    }
    /// All topics and groups that have dead letters.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the transport keeps none, else what it says.
    pub async fn dead_letter_queues(&self) -> Result<Vec<DeadLetterQueue>> {
        self.dead_letter_store()?.queues().await
    }
    /// Flushes and closes the connection, for all clones.
    ///
    /// # Errors
    /// What the transport says.
    pub async fn close(self) -> Result<()> {
        self.0.close().await
    }

    fn dead_letter_store(&self) -> Result<Arc<dyn DeadLetterStore>> {
        self.0.dead_letters().ok_or(Error::Unsupported {
            transport: self.transport(),
            wanted: "dead letters",
        })
    }
    async fn deliver(&self, topic: &Topic, mut batch: Vec<Message>, until: Until) -> Vec<Result<Receipt>> {
        if topic.check_name().is_err() {
            return batch
                .iter()
                .map(|_| topic.check_name().map(|()| Receipt::default()))
                .collect();
        }
        for message in &mut batch {
            trace_context::ensure(&mut message.headers, message.id);
        }
        if batch.iter().all(|message| message.check().is_ok()) {
            return self.transmit(topic, batch, until).await;
        }
        let fits: Vec<Result<()>> = batch.iter().map(Message::check).collect();
        batch.retain(|message| message.check().is_ok());
        let mut sent = self.transmit(topic, batch, until).await.into_iter();
        let unanswered = || Err(Error::Unconfirmed("the transport gave no result".into()));
        fits.into_iter()
            .map(|fit| fit.and_then(|()| sent.next().unwrap_or_else(unanswered)))
            .collect()
    }
    /// Publishes what is ready to be, within its span and metrics.
    pub(crate) async fn transmit(&self, topic: &Topic, batch: Vec<Message>, until: Until) -> Vec<Result<Receipt>> {
        if batch.is_empty() {
            return Vec::new();
        }
        fail::fail_point!("bus.publish.before");
        let system = self.transport();
        let span = tracing::debug_span!(
            "publish",
            otel.name = format_args!("publish {topic}"),
            otel.kind = "producer",
            messaging.system = system,
            messaging.operation.name = "publish",
            messaging.operation.r#type = "send",
            messaging.destination.name = %topic,
            messaging.batch.message_count = batch.len(),
            messaging.message.id = %batch[0].id,
        );
        let start = Instant::now();
        let results = match until {
            Until::Confirmed => self.0.publish(topic, batch).instrument(span).await,
            Until::Settled => self.0.publish_settled(topic, batch).instrument(span).await,
        };
        measure(system, topic, start, &results);
        fail::fail_point!("bus.publish.after");
        results
    }
}

/// How long a publish waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    Confirmed,
    Settled,
}

fn measure(system: &'static str, topic: &Topic, start: Instant, results: &[Result<Receipt>]) {
    let failed = results.iter().filter(|result| result.is_err()).count();
    for (outcome, count) in [("ok", results.len() - failed), ("error", failed)] {
        if count > 0 {
            let labels = [
                ("system", system.into()),
                ("destination", topic.label()),
                ("outcome", outcome.into()),
            ];
            metrics::counter!(metric_definitions::PUBLISHED, &labels).increment(count as u64);
        }
    }
    let labels = [("system", system.into()), ("destination", topic.label())];
    metrics::histogram!(metric_definitions::PUBLISH_DURATION, &labels).record(start.elapsed());
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bus").field(&self.0.name()).finish()
    }
}

type Connect = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Bus>> + Send + Sync>;

/// Transports by URL scheme. A crate that implements some (a log is one) adds its own.
#[derive(Clone)]
pub struct Transports(BTreeMap<&'static str, Connect>);

impl Default for Transports {
    /// Those of this crate.
    fn default() -> Self {
        let known = Self(BTreeMap::new()).register("memory", |_| async { Ok(Bus::memory()) });
        #[cfg(feature = "amqp")]
        let known = ["amqp", "amqps"].into_iter().fold(known, |known, scheme| {
            known.register(scheme, |url| crate::amqp::Amqp::options(url).connect())
        });
        #[cfg(not(feature = "amqp"))]
        let known = known.left_out("amqp", "amqp").left_out("amqps", "amqp-tls");
        #[cfg(feature = "nats")]
        let known = known.register("nats", |url| crate::nats::Nats::options(url).connect());
        #[cfg(not(feature = "nats"))]
        let known = known.left_out("nats", "nats");
        #[cfg(feature = "kafka")]
        let known = ["kafka", "kafkas"].into_iter().fold(known, |known, scheme| {
            known.register(scheme, |url| crate::kafka::Kafka::options(url).connect())
        });
        #[cfg(not(feature = "kafka"))]
        let known = known.left_out("kafka", "kafka").left_out("kafkas", "kafka-tls");
        known
    }
}

impl Transports {
    /// Adds a scheme, in place of one of the same name.
    #[must_use]
    pub fn register<F, Fut>(mut self, scheme: &'static str, connect: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bus>> + Send + 'static,
    {
        self.0.insert(scheme, Arc::new(move |url| Box::pin(connect(url))));
        self
    }
    #[cfg(not(all(feature = "amqp", feature = "kafka", feature = "nats")))]
    fn left_out(self, scheme: &'static str, feature: &'static str) -> Self {
        self.register(scheme, move |_| async move {
            Err(Error::FeatureOff {
                scheme: scheme.to_owned(),
                feature,
            })
        })
    }
    /// Connects by URL.
    ///
    /// # Errors
    /// [`Error::FeatureOff`] where the scheme is known but left out of this build, [`Error::UnknownScheme`] where it is
    /// not known at all, else what the transport says.
    pub async fn connect(&self, url: &str) -> Result<Bus> {
        let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
        match self.0.get(scheme) {
            Some(connect) => connect(url.to_owned()).await,
            None => Err(Error::UnknownScheme {
                scheme: scheme.to_owned(),
            }),
        }
    }
}

impl fmt::Debug for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(all(test, not(feature = "nats")))]
mod tests {
    use super::Bus;
    use crate::Error;

    #[tokio::test]
    async fn a_transport_that_is_left_out_names_its_feature() {
        let error = Bus::connect("nats://localhost").await.unwrap_err();
        assert!(matches!(error, Error::FeatureOff { feature: "nats", .. }), "{error:?}");
    }
}

//! Publishing: many messages at once, in their order, each confirmed by all replicas that are in step.
//!
//! The producer sends each message for as long as it takes, so that one that was not confirmed keeps its place before later
//! ones of its key: a caller that does not wait any longer is told that it is *unconfirmed*, and its message is sent all the
//! same. Until it is, nothing more is taken: what callers publish again meanwhile would only pile up.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    message::OwnedHeaders,
    producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer, future_producer::OwnedDeliveryResult},
};
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep, timeout_at},
};

use super::{
    envelope::{to_watermill, to_wire},
    link::{Link, Purpose, RECORD_MAX, create, failure},
    listener::{Cause, Listener},
};
use crate::{Error, Message, Receipt, Result, Topic, Wire, headers::name};

/// Between two tries while the producer's queue is full.
const FULL: Duration = Duration::from_millis(5);
/// Most bytes that wait in the producer.
const QUEUE_KIB_MAX: &str = "65536";

type Client = FutureProducer<Listener>;

/// The producer of a connection; another one when it has come to an end that is none of a message's.
pub(super) struct Publisher {
    config: ClientConfig,
    client: Mutex<Client>,
    /// Of the first client.
    listener: Listener,
    /// Messages that nobody waits for any more, and that are on their way still.
    astray: watch::Sender<usize>,
}

/// What is sent.
pub(super) struct Record<'a> {
    pub(super) topic: &'a str,
    pub(super) key: Option<&'a str>,
    /// None: a tombstone.
    pub(super) payload: Option<&'a [u8]>,
    pub(super) headers: OwnedHeaders,
}

/// A message that the producer has, or that it has not taken.
enum Sent {
    Waiting(DeliveryFuture),
    Refused(Error),
}

impl Publisher {
    pub(super) fn new(config: &ClientConfig) -> Result<Self> {
        let mut config = config.clone();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("request.timeout.ms", "5000")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "1")
            .set("message.max.bytes", RECORD_MAX.to_string())
            .set("queue.buffering.max.kbytes", QUEUE_KIB_MAX);
        let listener = Listener::default();
        let client = make(&config, listener.clone())?;
        Ok(Self {
            config,
            listener,
            client: Mutex::new(client),
            astray: watch::channel(0).0,
        })
    }
    /// What librdkafka has said of the connection. A producer hears of it by itself, other clients where they are polled.
    pub(super) fn heard(&self) -> Option<(Cause, String)> {
        self.listener.last()
    }
    fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Takes another producer where this one has come to its end: it could not keep the order any longer.
    fn renew(&self, old: &Client) {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.client().fatal_error().is_none() || old.client().native_ptr() != client.client().native_ptr() {
            return;
        }
        match make(&self.config, Listener::default()) {
            Ok(new) => {
                tracing::warn!("Kafka's producer came to an end; another takes its place");
                *client = new;
            }
            Err(error) => tracing::warn!(
                error = crate::error::chain(&error),
                "Kafka's producer cannot be made anew"
            ),
        }
    }
    /// Waits until nothing is astray.
    async fn settled(&self, until: Instant) -> Result<()> {
        let mut astray = self.astray.subscribe();
        let settled = timeout_at(until, astray.wait_for(|astray| *astray == 0)).await;
        match settled {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Error::Disconnected("the brokers confirm nothing now".into())),
        }
    }
    /// Hands a message to the producer, where that has room in time.
    async fn enqueue(&self, client: &Client, record: Record<'_>, until: Instant) -> Result<DeliveryFuture> {
        let mut wanted = FutureRecord::<str, [u8]>::to(record.topic).headers(record.headers);
        (wanted.key, wanted.payload) = (record.key, record.payload);
        loop {
            match client.send_result(wanted) {
                Ok(sent) => return Ok(sent),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < until => {
                    wanted = back;
                    sleep(FULL).await;
                }
                Err((error, back)) => {
                    self.renew(client);
                    let size = back.payload.map_or(0, <[u8]>::len);
                    return Err(refused(error, size));
                }
            }
        }
    }
    /// The end of one message; or that it is astray.
    async fn outcome(
        self: &Arc<Self>,
        client: &Client,
        mut sent: DeliveryFuture,
        until: Instant,
        size: usize,
    ) -> Result<Receipt> {
        let Ok(outcome) = timeout_at(until, &mut sent).await else {
            let publisher = Arc::clone(self);
            publisher.astray.send_modify(|astray| *astray += 1);
            tokio::spawn(async move {
                let _ = sent.await;
                publisher.astray.send_modify(|astray| *astray -= 1);
            });
            return Err(Error::Unconfirmed("the brokers have not answered in time".into()));
        };
        let outcome = outcome.map_err(|_| Error::Unconfirmed("the producer came to an end".into()))?;
        if outcome.is_err() {
            self.renew(client);
        }
        receipt(outcome, size)
    }
    /// Lets go of what is still on its way, where nobody waits for it.
    pub(super) fn end(&self) {
        let client = self.client();
        if let Err(error) = client.flush(Duration::from_secs(1)) {
            tracing::debug!(%error, "closed with messages on their way that nobody waits for");
        }
    }
}

fn make(config: &ClientConfig, listener: Listener) -> Result<Client> {
    create(config.create_with_context(listener))
}

fn receipt(outcome: OwnedDeliveryResult, size: usize) -> Result<Receipt> {
    match outcome {
        Ok(delivery) => Ok(Receipt {
            sequence: u64::try_from(delivery.offset).ok(),
        }),
        Err((error, _)) => Err(refused(error, size)),
    }
}

fn refused(error: KafkaError, size: usize) -> Error {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => Error::TooLarge {
            part: "message with its headers (see `max.message.bytes` of the topic)",
            size,
            max: RECORD_MAX,
        },
        Some(RDKafkaErrorCode::QueueFull) => Error::Disconnected("the brokers take nothing now".into()),
        _ => match failure(error) {
            // It may be there all the same.
            Error::Disconnected(why) => Error::Unconfirmed(why),
            error => error,
        },
    }
}

impl Link {
    /// Publishes, one result for each message.
    pub(super) async fn publish(self: &Arc<Self>, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let _busy = self.busy.token();
        let until = Instant::now() + self.options.confirm_within;
        if let Err(error) = self.ready(topic, until).await {
            let why = error.to_string();
            let mut first = Some(error);
            let later = || Error::Disconnected(why.clone().into());
            return batch.iter().map(|_| Err(first.take().unwrap_or_else(later))).collect();
        }
        let (publisher, client) = (&self.publisher, self.publisher.client());
        let mut sent = Vec::with_capacity(batch.len());
        let mut broken = false;
        for message in &batch {
            let taken = if broken {
                Err(Error::Disconnected("an earlier message was not taken".into()))
            } else {
                self.send_one(&client, topic, message, until).await
            };
            // What can never be published does not hold up others; what may be published again must not be passed.
            let keyed_failure = taken.as_ref().err().is_some_and(|error| error.is_retryable());
            broken |= keyed_failure && !matches!(taken, Err(Error::NoSubscriber { .. }));
            sent.push(taken.map_or_else(Sent::Refused, Sent::Waiting));
        }
        let outcomes = sent.into_iter().zip(&batch).map(|(sent, message)| {
            let client = &client;
            async move {
                match sent {
                    Sent::Waiting(sent) => publisher.outcome(client, sent, until, message.payload.len()).await,
                    Sent::Refused(error) => Err(error),
                }
            }
        });
        let results = join_all(outcomes).await;
        if results.iter().any(is_unknown_topic) {
            self.undeclare(topic.as_ref());
        }
        results
    }
    async fn ready(&self, topic: &Topic, until: Instant) -> Result<()> {
        self.names.check(topic)?;
        self.publisher.settled(until).await?;
        self.declare(topic.as_ref(), Purpose::Messages).await
    }
    async fn send_one(
        self: &Arc<Self>,
        client: &Client,
        topic: &Topic,
        message: &Message,
        until: Instant,
    ) -> Result<DeliveryFuture> {
        if self.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        if message.headers.get(name::MANDATORY) == Some("1") && !self.has_audience(topic).await? {
            return Err(Error::NoSubscriber {
                topic: topic.to_string(),
            });
        }
        let record = Record {
            topic: topic.as_ref(),
            key: message.key.as_ref().map(|key| key.0.as_ref()),
            payload: Some(&message.payload),
            headers: match self.options.wire {
                Wire::CloudEvents => to_wire(message, None),
                Wire::Watermill => to_watermill(message)?,
            },
        };
        self.publisher.enqueue(client, record, until).await
    }
    /// Sends one record; returns when the brokers have it.
    pub(super) async fn send(&self, record: Record<'_>) -> Result<Receipt> {
        let until = Instant::now() + self.options.confirm_within;
        let (client, size) = (self.publisher.client(), record.payload.map_or(0, <[u8]>::len));
        self.publisher.settled(until).await?;
        let sent = self.publisher.enqueue(&client, record, until).await?;
        self.publisher.outcome(&client, sent, until, size).await
    }
}

fn is_unknown_topic(result: &Result<Receipt>) -> bool {
    let Err(Error::Unconfirmed(why)) = result else {
        return false;
    };
    let code = why
        .downcast_ref::<KafkaError>()
        .and_then(KafkaError::rdkafka_error_code);
    matches!(
        code,
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition)
    )
}

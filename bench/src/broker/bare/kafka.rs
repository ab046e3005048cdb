//! librdkafka by rdkafka: an idempotent producer with `acks=all`, and a consumer that is polled by a thread of its own and
//! commits, as often as the bus does, the offsets of what was handled.

use std::{
    ops::ControlFlow,
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::anyhow;
use futures_util::future::try_join_all;
use rdkafka::{
    ClientConfig, Message as _,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    producer::{DeliveryFuture, FutureProducer, FutureRecord},
};
use uuid::Uuid;

use super::super::{
    message::Numbered,
    way::{Bare, GROUP, Load, Receive, Way},
};

/// As many as the bus gives a topic.
const PARTITIONS: i32 = 8;
/// How long a poll waits.
const POLL: Duration = Duration::from_millis(50);

/// A producer and a topic.
#[derive(Clone)]
pub(crate) struct Kafka {
    servers: Arc<str>,
    topic: Arc<str>,
    producer: FutureProducer,
}

impl Kafka {
    fn config(servers: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", servers);
        config
    }
    fn send(&self, message: &Numbered) -> anyhow::Result<DeliveryFuture> {
        let key = message.key();
        let record = FutureRecord::to(&self.topic)
            .key(key.as_str())
            .payload(message.payload.as_slice());
        self.producer.send_result(record).map_err(|(error, _)| anyhow!(error))
    }
}

async fn confirmed(sent: DeliveryFuture) -> anyhow::Result<()> {
    sent.await?.map_err(|(error, _)| error)?;
    Ok(())
}

impl Way for Kafka {
    async fn open(url: &str, load: Load) -> anyhow::Result<Self> {
        let servers = url.trim_start_matches("kafka://");
        let topic = format!("bare-{}", Uuid::now_v7().simple());
        let admin: AdminClient<DefaultClientContext> = Self::config(servers).create()?;
        let new = NewTopic::new(&topic, PARTITIONS, TopicReplication::Fixed(-1));
        for made in admin.create_topics([&new], &AdminOptions::new()).await? {
            made.map_err(|(topic, code)| anyhow!("the topic {topic}: {code}"))?;
        }
        // Waiting for company pays where there is some.
        let linger_ms = match load {
            Load::One | Load::Steady => "0",
            Load::Many | Load::Batch => "1",
        };
        let producer = Self::config(servers)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", linger_ms)
            .create()?;
        Ok(Self {
            servers: servers.into(),
            topic: topic.into(),
            producer,
        })
    }
    async fn publish(&self, message: Numbered) -> anyhow::Result<()> {
        confirmed(self.send(&message)?).await
    }
    async fn publish_all(&self, batch: Vec<Numbered>) -> anyhow::Result<()> {
        let sent: Vec<_> = batch
            .iter()
            .map(|message| self.send(message))
            .collect::<Result<_, _>>()?;
        try_join_all(sent.into_iter().map(confirmed)).await?;
        Ok(())
    }
    async fn consume(&self, receive: impl Receive) -> anyhow::Result<()> {
        let consumer: BaseConsumer = Self::config(&self.servers)
            .set("group.id", format!("{GROUP}-{}", self.topic))
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.offset.store", "false")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "200")
            .create()?;
        consumer.subscribe(&[&self.topic])?;
        // The thread ends with whoever waits for it.
        let wanted = Arc::new(());
        let watch = Arc::downgrade(&wanted);
        tokio::task::spawn_blocking(move || poll(&consumer, &watch, receive)).await?
    }
    async fn close(self) -> anyhow::Result<()> {
        Ok(())
    }
}

fn poll(consumer: &BaseConsumer, wanted: &Weak<()>, mut receive: impl Receive) -> anyhow::Result<()> {
    while wanted.strong_count() > 0 {
        let Some(message) = consumer.poll(POLL) else { continue };
        let message = message?;
        let more = receive(message.payload().unwrap_or_default())?;
        consumer.store_offset_from_message(&message)?;
        if more == ControlFlow::Break(()) {
            consumer.commit_consumer_state(CommitMode::Sync)?;
            break;
        }
    }
    Ok(())
}

impl Bare for Kafka {
    const PUBLISH: &'static str =
        "rdkafka, idempotent, acks=all, each message awaited; linger 0 for one publisher, else 1 ms";
    const BATCH: &'static str = "rdkafka, idempotent, acks=all, 1,000 messages handed over, then all awaited";
    const CONSUME: &'static str = "rdkafka, polled by a thread, offsets stored when handled, committed each 200 ms";
    const READ_PER_SECOND: f64 = 150_000.0;
}

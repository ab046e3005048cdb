//! async-nats: each publish acknowledged by the stream under a message id, each acknowledgement confirmed by the server.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use async_nats::{
    Client, ConnectOptions, Request, ServerAddr,
    jetstream::{
        self, AckKind, Context, Message,
        consumer::{AckPolicy, pull},
        context::PublishAckFuture,
        message::PublishMessage,
        stream,
    },
};
use futures_util::{StreamExt as _, future::try_join_all};
use uuid::Uuid;

use super::super::{
    message::Numbered,
    settle::settled,
    way::{Bare, GROUP, IN_FLIGHT, Load, Receive, Way},
};

/// Fetched at once: as much again as may be unsettled.
const FETCHED: usize = 2 * IN_FLIGHT;
/// More than are ever unsettled.
const UNSETTLED_MAX: i64 = 50_000;

/// A connection and a stream of one subject.
#[derive(Clone)]
pub(crate) struct Nats {
    client: Client,
    context: Context,
    stream: Arc<str>,
}

impl Nats {
    async fn send(&self, message: Numbered) -> anyhow::Result<PublishAckFuture> {
        let publish = PublishMessage::build()
            .message_id(message.number.to_string())
            .payload(message.payload.into());
        Ok(self.context.send_publish(self.stream.to_string(), publish).await?)
    }
}

impl Way for Nats {
    async fn open(url: &str, _: Load) -> anyhow::Result<Self> {
        let address: ServerAddr = url.parse()?;
        let token = address.username().context("the server asks for a token")?.to_owned();
        let client = ConnectOptions::new().token(token).connect(address).await?;
        let context = jetstream::new(client.clone());
        let name = format!("bare-{}", Uuid::now_v7().simple());
        let config = stream::Config {
            name: name.clone(),
            subjects: vec![name.clone()],
            storage: stream::StorageType::File,
            duplicate_window: Duration::from_secs(120),
            ..stream::Config::default()
        };
        context.create_stream(config).await?;
        Ok(Self {
            client,
            context,
            stream: name.into(),
        })
    }
    async fn publish(&self, message: Numbered) -> anyhow::Result<()> {
        self.send(message).await?.await?;
        Ok(())
    }
    async fn publish_all(&self, batch: Vec<Numbered>) -> anyhow::Result<()> {
        let mut sent = Vec::with_capacity(batch.len());
        for message in batch {
            sent.push(self.send(message).await?.into_future());
        }
        try_join_all(sent).await?;
        Ok(())
    }
    async fn consume(&self, mut receive: impl Receive) -> anyhow::Result<()> {
        let config = pull::Config {
            durable_name: Some(GROUP.to_owned()),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: UNSETTLED_MAX,
            ..pull::Config::default()
        };
        let consumer = self.context.create_consumer_on_stream(config, &*self.stream).await?;
        let messages = consumer.stream().max_messages_per_batch(FETCHED).messages().await?;
        let messages = messages.map(|next| next.map_err(|error| anyhow!(error)));
        // Not `double_ack`, which subscribes anew for each.
        let ack = |message: Message| async move {
            let reply = message.message.reply.context("a message that cannot be answered")?;
            let ack = Request::new().payload(AckKind::Ack.into());
            self.client.send_request(reply, ack).await?;
            anyhow::Ok(())
        };
        settled(messages, |message| receive(&message.payload), ack).await
    }
    async fn close(self) -> anyhow::Result<()> {
        Ok(self.client.drain().await?)
    }
}

impl Bare for Nats {
    const PUBLISH: &'static str = "async-nats, each message awaited until the stream has it";
    const BATCH: &'static str = "async-nats, 1,000 messages sent, then all acknowledgements awaited";
    const CONSUME: &'static str =
        "async-nats, a pull consumer, each message acknowledged and that confirmed, 256 at a time";
    const READ_PER_SECOND: f64 = 60_000.0;
}

//! lapin: persistent, mandatory messages, each confirmed by a quorum queue; acknowledgements that leave together.

use std::{ops::ControlFlow, sync::Arc};

use anyhow::ensure;
use futures_util::{StreamExt as _, future::try_join_all};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind, PublisherConfirm,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use uuid::Uuid;

use super::super::{
    message::Numbered,
    way::{Bare, IN_FLIGHT, Load, Receive, Way},
};

/// Delivered ahead: as much again as is acknowledged at once.
const PREFETCH: u16 = 512;
const PERSISTENT: u8 = 2;

/// A connection that publishes, and the name of an exchange and the queue that is bound to it.
#[derive(Clone)]
pub(crate) struct RabbitMq {
    url: Arc<str>,
    connection: Arc<Connection>,
    channel: Channel,
    name: Arc<str>,
}

impl RabbitMq {
    async fn declare(channel: &Channel, name: &str) -> anyhow::Result<()> {
        let exchange = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let none = FieldTable::default;
        let declared = channel.exchange_declare(name.into(), ExchangeKind::Topic, exchange, none());
        declared.await?;
        let queue = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let mut quorum = none();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(name.into(), queue, quorum).await?;
        let bound = channel.queue_bind(
            name.into(),
            name.into(),
            name.into(),
            QueueBindOptions::default(),
            none(),
        );
        Ok(bound.await?)
    }
    async fn send(&self, message: &Numbered) -> anyhow::Result<PublisherConfirm> {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_message_id(message.number.to_string().into());
        let (exchange, key) = ((&*self.name).into(), (&*self.name).into());
        let sent = self
            .channel
            .basic_publish(exchange, key, options, &message.payload, properties);
        Ok(sent.await?)
    }
}

async fn confirmed(sent: PublisherConfirm) -> anyhow::Result<()> {
    ensure!(sent.await? == Confirmation::Ack(None), "a message was not taken");
    Ok(())
}

impl Way for RabbitMq {
    async fn open(url: &str, _: Load) -> anyhow::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let name = format!("bare-{}", Uuid::now_v7().simple());
        Self::declare(&channel, &name).await?;
        Ok(Self {
            url: url.into(),
            connection: Arc::new(connection),
            channel,
            name: name.into(),
        })
    }
    async fn publish(&self, message: Numbered) -> anyhow::Result<()> {
        confirmed(self.send(&message).await?).await
    }
    async fn publish_all(&self, batch: Vec<Numbered>) -> anyhow::Result<()> {
        let mut sent = Vec::with_capacity(batch.len());
        for message in &batch {
            sent.push(confirmed(self.send(message).await?));
        }
        try_join_all(sent).await?;
        Ok(())
    }
    async fn consume(&self, mut receive: impl Receive) -> anyhow::Result<()> {
        // RabbitMQ slows down connections that publish: acknowledgements go by another one.
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume((&*self.name).into(), "".into(), options, FieldTable::default());
        let mut ready = consumer.await?.ready_chunks(IN_FLIGHT);
        let mut more = ControlFlow::Continue(());
        while more.is_continue()
            && let Some(deliveries) = ready.next().await
        {
            let mut last = None;
            for delivery in deliveries {
                let delivery = delivery?;
                more = receive(&delivery.data)?;
                last = Some(delivery.delivery_tag);
            }
            if let Some(tag) = last {
                channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
            }
        }
        ensure!(more.is_break(), "the messages have ended");
        Ok(connection.close(200, "done".into()).await?)
    }
    async fn close(self) -> anyhow::Result<()> {
        Ok(self.connection.close(200, "done".into()).await?)
    }
}

impl Bare for RabbitMq {
    const PUBLISH: &'static str = "lapin, one channel, mandatory and confirmed, each message awaited";
    const BATCH: &'static str = "lapin, 1,000 mandatory messages sent, then all confirmations awaited";
    const CONSUME: &'static str = "lapin, what has come is acknowledged together";
    const READ_PER_SECOND: f64 = 40_000.0;
}

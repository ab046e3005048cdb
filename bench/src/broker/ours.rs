//! The bus, as its users have it.

use anyhow::Context as _;
use futures_util::StreamExt as _;
use sagamill::bus::{Bus, Delivery, Message, Subscribe, Topic};
use uuid::Uuid;

use super::{
    message::Numbered,
    settle::settled,
    way::{GROUP, IN_FLIGHT, Load, Receive, Way},
};

/// A connection with a topic.
#[derive(Debug, Clone)]
pub(crate) struct Ours {
    bus: Bus,
    topic: Topic,
}

impl Ours {
    fn request(&self) -> Subscribe {
        Subscribe::new(self.topic.clone(), GROUP).max_in_flight(IN_FLIGHT)
    }
}

impl Way for Ours {
    async fn open(url: &str, _: Load) -> anyhow::Result<Self> {
        let bus = sagamill::connect(url).await?;
        let topic = Topic::from(format!("bench-{}", Uuid::now_v7().simple()));
        let ours = Self { bus, topic };
        if !ours.bus.capabilities().replay {
            // What nobody has subscribed to is kept for nobody.
            drop(ours.bus.subscribe(ours.request()).await?);
        }
        Ok(ours)
    }
    async fn publish(&self, message: Numbered) -> anyhow::Result<()> {
        self.bus.publish_to(self.topic.clone(), [own(message)]).await?;
        Ok(())
    }
    async fn publish_all(&self, batch: Vec<Numbered>) -> anyhow::Result<()> {
        let batch = batch.into_iter().map(own);
        self.bus.publish_to(self.topic.clone(), batch).await?;
        Ok(())
    }
    async fn consume(&self, mut receive: impl Receive) -> anyhow::Result<()> {
        let deliveries = self.bus.subscribe(self.request()).await?;
        let deliveries = deliveries.map(|next| next.context("the subscription"));
        let ack = |delivery: Delivery| async { anyhow::Ok(delivery.ack().await?) };
        settled(deliveries, |delivery| receive(&delivery.message.payload), ack).await
    }
    async fn close(self) -> anyhow::Result<()> {
        Ok(self.bus.close().await?)
    }
}

fn own(message: Numbered) -> Message {
    let key = message.key();
    Message::new(message.payload).key(key)
}

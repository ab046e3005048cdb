//! What the broker tells of a group: how many messages are ready in its queue, and how many consume it. What consumers have and
//! have not settled it tells to operators alone, and so it does the names of its queues.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use tokio::time::timeout;

use super::{
    NAME,
    link::{Link, Refusal, is_not_found},
};
use crate::{Error, Inspect, Lag, LagOf, Result, Topic, TopicInfo};

/// Asks for queues by their names.
pub(super) struct Inspector(pub(super) Arc<Link>);

impl Inspector {
    /// Of a queue that is there messages and consumers.
    async fn queue(&self, name: &str) -> Result<Option<(u32, u32)>> {
        let link = &self.0;
        if link.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        // A channel of its own, which the broker closes where the queue is not there.
        let channel = link.answer("a channel", link.line.live().await?.channel()).await?;
        let options = QueueDeclareOptions {
            passive: true,
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let asked = channel.queue_declare(name.into(), options, FieldTable::default());
        match timeout(link.options.confirm_within, asked).await {
            Ok(Ok(queue)) => {
                link.answer("a channel", channel.close(200, "asked".into())).await?;
                Ok(Some((queue.message_count(), queue.consumer_count())))
            }
            Ok(Err(error)) if is_not_found(&error) => Ok(None),
            Ok(Err(error)) => Err(error.about(&format!("the queue `{name}`"))),
            Err(_) => Err(Error::Disconnected(
                format!("the queue `{name}`: no answer in time").into(),
            )),
        }
    }
    async fn one(&self, topic: &Topic, group: &str) -> Result<Vec<Lag>> {
        let queue = self.queue(&self.0.names.queue(group, topic)).await?;
        let lag = queue.map(|(messages, consumers)| Lag {
            waiting: Some(messages.into()),
            members: Some(consumers.into()),
            ..Lag::new(topic.clone(), group)
        });
        Ok(lag.into_iter().collect())
    }
}

fn unsupported(wanted: &'static str) -> Error {
    Error::Unsupported {
        transport: NAME,
        wanted,
    }
}

impl Inspect for Inspector {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicInfo>>> {
        let wanted = "a list of topics, since AMQP has none: ask for the lag of a topic and a group by their names, or look \
                      at `rabbitmqctl list_queues` on the broker";
        Box::pin(std::future::ready(Err(unsupported(wanted))))
    }
    fn lag<'a>(&'a self, of: &'a LagOf) -> BoxFuture<'a, Result<Vec<Lag>>> {
        Box::pin(async move {
            let (Some(topic), Some(group)) = (&of.topic, &of.group) else {
                let wanted = "a list of groups, since AMQP has none: name both the topic and the group, or look at \
                              `rabbitmqctl list_queues` on the broker";
                return Err(unsupported(wanted));
            };
            self.one(topic, group).await
        })
    }
}

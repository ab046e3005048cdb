//! What the broker tells of a group: how many messages are ready in its queue, and how many consume it. What consumers have and
//! have not settled it tells to operators alone, and so it does the names of its queues.

use std::sync::Arc;

use futures_core::future::BoxFuture;

use super::{NAME, link::Link};
use crate::{Error, Inspect, Lag, LagOf, Result, Topic, TopicInfo};

/// Asks for queues by their names.
pub(super) struct Inspector(pub(super) Arc<Link>);

impl Inspector {
    async fn one(&self, topic: &Topic, group: &str) -> Result<Vec<Lag>> {
        if self.0.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        let queue = self.0.look_at(&self.0.names.queue(group, topic)).await?;
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

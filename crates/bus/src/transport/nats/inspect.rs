//! What the server knows of topics and groups: how many messages lie under each subject, and what each consumer has to do.

use std::sync::Arc;

use async_nats::jetstream::{consumer::Info, stream::Stream};
use futures_core::future::BoxFuture;
use futures_util::TryStreamExt;

use super::link::Link;
use crate::{BoxError, Error, Inspect, Lag, LagOf, Result, Topic, TopicInfo};

/// Reads the stream's subjects, and its consumers.
pub(super) struct Inspector(pub(super) Arc<Link>);

impl Inspector {
    async fn stream(&self) -> Result<Stream<()>> {
        if self.0.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        self.0.online().await?;
        self.0.stream(self.0.names.stream()).await
    }
    /// A topic is there for as long as a message of it is.
    async fn all(&self) -> Result<Vec<TopicInfo>> {
        let stream = self.stream().await?;
        let mut subjects = stream
            .info_with_subjects(self.0.names.topic_subjects())
            .await
            .map_err(unanswered)?;
        let mut topics = Vec::new();
        while let Some((subject, count)) = subjects.try_next().await.map_err(unanswered)? {
            let info = |topic| TopicInfo {
                messages: Some(count as u64),
                ..TopicInfo::new(topic)
            };
            topics.extend(self.0.names.topic_of(&subject).map(info));
        }
        topics.sort_by(|a, b| a.topic.cmp(&b.topic));
        Ok(topics)
    }
    async fn behind(&self, of: &LagOf) -> Result<Vec<Lag>> {
        let mut consumers = self.stream().await?.consumers();
        let mut all = Vec::new();
        while let Some(consumer) = consumers.try_next().await.map_err(unanswered)? {
            all.extend(lag(&consumer).filter(|lag| of.takes(&lag.topic, &lag.group)));
        }
        all.sort_by(|a, b| (&a.topic, &a.group).cmp(&(&b.topic, &b.group)));
        Ok(all)
    }
}

/// None where it is no group's of ours.
fn lag(consumer: &Info) -> Option<Lag> {
    let about = |name| consumer.config.metadata.get(name).cloned();
    let (topic, group) = (about("sagamill-topic")?, about("sagamill-group")?);
    let delivered = consumer.num_ack_pending as u64;
    Some(Lag {
        unsettled: Some(consumer.num_pending + delivered),
        waiting: Some(consumer.num_pending),
        delivered: Some(delivered),
        // The server counts questions that are open, not those who ask.
        members: None,
        ..Lag::new(Topic::from(topic), group)
    })
}

fn unanswered(error: impl Into<BoxError>) -> Error {
    Error::Disconnected(error.into())
}

impl Inspect for Inspector {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicInfo>>> {
        Box::pin(self.all())
    }
    fn lag<'a>(&'a self, of: &'a LagOf) -> BoxFuture<'a, Result<Vec<Lag>>> {
        Box::pin(self.behind(of))
    }
}

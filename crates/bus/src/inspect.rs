//! What a bus tells of itself: its topics, and how far its groups are behind.

use std::sync::Arc;

use futures_core::future::BoxFuture;

use crate::{Bus, Error, Group, Result, Topic};

/// A topic as its broker knows it. What the broker does not tell is none, and never 0.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicInfo {
    /// Its name.
    pub topic: Topic,
    /// Messages that lie there, read or not.
    pub messages: Option<u64>,
    /// Into how many parts it is divided.
    pub partitions: Option<u32>,
    /// Where the first of its messages lies, as [`Receipt::sequence`](crate::Receipt::sequence) counts.
    pub first: Option<u64>,
    /// Where the last of its messages lies.
    pub last: Option<u64>,
}

impl TopicInfo {
    /// For authors of transports: a topic of which nothing else is known yet.
    #[must_use]
    pub fn new(topic: Topic) -> Self {
        Self {
            topic,
            messages: None,
            partitions: None,
            first: None,
            last: None,
        }
    }
}

/// How far a group is behind on a topic or pattern that it is subscribed to, whether a member of it is there or not. What the
/// broker does not tell is none, and never 0. Numbers are of the moment in which they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// What it is subscribed to.
    pub topic: Topic,
    /// The group.
    pub group: String,
    /// Messages that it has not settled: neither acknowledged nor given up, whether they were delivered or not.
    pub unsettled: Option<u64>,
    /// Those of them that wait to be delivered.
    pub waiting: Option<u64>,
    /// Those of them that a process of the group has. A retry that is not due yet counts here or as waiting, as the broker
    /// keeps it.
    pub delivered: Option<u64>,
    /// Connections that take its messages now.
    pub members: Option<u64>,
}

impl Lag {
    /// For authors of transports: a subscription of which nothing else is known yet.
    #[must_use]
    pub fn new(topic: Topic, group: impl Into<String>) -> Self {
        Self {
            topic,
            group: group.into(),
            unsettled: None,
            waiting: None,
            delivered: None,
            members: None,
        }
    }
    /// Messages that the group has yet to do, as far as the broker tells: at least so many.
    #[must_use]
    pub fn at_least(&self) -> Option<u64> {
        self.unsettled.or(self.waiting)
    }
}

/// Whose lag is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LagOf {
    /// Only subscriptions that have to do with this topic or pattern.
    pub topic: Option<Topic>,
    /// Only those of this group.
    pub group: Option<String>,
}

impl LagOf {
    /// All groups on all topics.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }
    /// Only subscriptions to this topic, to one that this pattern covers, or to a pattern that covers it.
    #[must_use]
    pub fn topic(self, topic: impl Into<Topic>) -> Self {
        Self {
            topic: Some(topic.into()),
            ..self
        }
    }
    /// Only those of this group.
    #[must_use]
    pub fn group(self, group: impl Into<String>) -> Self {
        Self {
            group: Some(group.into()),
            ..self
        }
    }
    /// Whether a group's subscription is among those that are asked for.
    #[must_use]
    pub fn takes(&self, topic: &Topic, group: &str) -> bool {
        let related = |asked: &Topic| asked.covers(topic) || topic.covers(asked);
        self.topic.as_ref().is_none_or(related) && self.group.as_ref().is_none_or(|asked| asked == group)
    }
}

/// For authors of transports: what they know of topics and groups.
pub trait Inspect: Send + Sync + 'static {
    /// All topics that are there, by name. [`Error::Unsupported`] where the broker has no list of them.
    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicInfo>>>;
    /// The lag of all subscriptions that are [asked for](LagOf::takes), by topic, then by group; none where a group has never
    /// subscribed. [`Error::Unsupported`] where the broker must be told more of them.
    fn lag<'a>(&'a self, of: &'a LagOf) -> BoxFuture<'a, Result<Vec<Lag>>>;
}

impl Bus {
    /// All topics that are there, by name, with what the broker knows of each.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the transport does not tell, or its broker has no list of topics; else what it says.
    pub async fn topics(&self) -> Result<Vec<TopicInfo>> {
        self.inspector()?.topics().await
    }
    /// How far groups are behind, by topic, then by group.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the transport does not tell, or its broker has no list of groups and the topic or the
    /// group is not named; else what it says.
    pub async fn lag(&self, of: LagOf) -> Result<Vec<Lag>> {
        if let Some(topic) = &of.topic {
            topic.check_pattern()?;
        }
        self.inspector()?.lag(&of).await
    }
    fn inspector(&self) -> Result<Arc<dyn Inspect>> {
        self.0.inspection().ok_or(Error::Unsupported {
            transport: self.transport(),
            wanted: "a look at its topics and groups",
        })
    }
}

impl Group {
    /// How far the group is behind on one topic or pattern that it subscribes to; none where it has never subscribed.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the transport does not tell; else what it says.
    pub async fn lag(&self, topic: impl Into<Topic>) -> Result<Option<Lag>> {
        let topic = topic.into();
        let all = self
            .bus
            .lag(LagOf::all().topic(topic.clone()).group(self.name.as_str()))
            .await?;
        Ok(all.into_iter().find(|lag| lag.topic == topic))
    }
}

#[cfg(test)]
mod tests {
    use super::LagOf;
    use crate::Topic;

    #[test]
    fn a_topic_is_asked_for_with_the_patterns_that_cover_it() {
        let takes = |of: &LagOf, topic: &'static str| of.takes(&Topic::from(topic), "billing");
        let of = LagOf::all().topic("payment.card");
        assert!(takes(&of, "payment.card") && takes(&of, "payment.*") && !takes(&of, "payment.cash"));
        let of = LagOf::all().topic("payment.*");
        assert!(takes(&of, "payment.card") && takes(&of, "payment.*") && !takes(&of, "payment"));
        assert!(takes(&LagOf::all(), "payment") && !takes(&LagOf::all().group("other"), "payment"));
    }
}

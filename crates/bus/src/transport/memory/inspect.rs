//! What the broker in this process knows of topics and groups: all there is.

use std::{future::ready, sync::Arc};

use futures_core::future::BoxFuture;

use super::{broker::Broker, group::Group};
use crate::{Inspect, Lag, LagOf, Result, TopicInfo};

/// Counts messages and members.
pub(super) struct Inspector(pub(super) Arc<Broker>);

impl Inspect for Inspector {
    /// Of a topic's messages those are counted that groups which are yet to come would get.
    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicInfo>>> {
        Box::pin(ready(Ok(self.0.topics())))
    }
    fn lag<'a>(&'a self, of: &'a LagOf) -> BoxFuture<'a, Result<Vec<Lag>>> {
        let groups = self.0.groups();
        let asked = groups.iter().filter(|group| of.takes(&group.pattern, &group.name));
        let mut all: Vec<Lag> = asked.map(|group| lag(group)).collect();
        all.sort_by(|a, b| (&a.topic, &a.group).cmp(&(&b.topic, &b.group)));
        Box::pin(ready(Ok(all)))
    }
}

fn lag(group: &Group) -> Lag {
    let (waiting, delivered) = group.backlog();
    let (waiting, delivered) = (waiting as u64, delivered as u64);
    Lag {
        unsettled: Some(waiting + delivered),
        waiting: Some(waiting),
        delivered: Some(delivered),
        members: Some(group.connections() as u64),
        ..Lag::new(group.pattern.clone(), group.name.as_str())
    }
}

//! Whether anybody would get what is published: asked of the brokers, for messages that must reach somebody.

use std::sync::Arc;

use super::link::{ANSWER_WITHIN, Link, blocking, failure};
use crate::{Result, Topic};

impl Link {
    /// Whether a group of ours is subscribed to a topic: it has committed offsets, which stay while none of its members is
    /// there, and its name tells what it is subscribed to.
    pub(super) async fn has_audience(self: &Arc<Self>, topic: &Topic) -> Result<bool> {
        if self.audience.was_seen(topic) {
            return Ok(true);
        }
        let (link, wanted) = (Arc::clone(self), topic.clone());
        let found = blocking(move || {
            let groups = link.admin.inner().fetch_group_list(None, ANSWER_WITHIN)?;
            let mut names = groups.groups().iter().map(|group| group.name());
            Ok(names.any(|name| link.names.subscribed(name).is_some_and(|topic| topic.covers(&wanted))))
        });
        let found = found.await?.map_err(failure)?;
        if found {
            self.audience.remember(topic);
        }
        Ok(found)
    }
}

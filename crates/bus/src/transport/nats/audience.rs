//! Whether anybody would get what is published: asked of the server, for messages that must reach somebody.

use futures_util::TryStreamExt;

use super::{link::Link, naming::covers};
use crate::{Error, Result, Topic};

impl Link {
    /// Whether a group is subscribed to a topic: it has a consumer, which stays while none of its members is there.
    pub(super) async fn has_audience(&self, topic: &Topic) -> Result<bool> {
        if self.audience.was_seen(topic) {
            return Ok(true);
        }
        self.online().await?;
        let subject = self.names.topic(topic);
        let stream = self.stream(self.names.stream()).await?;
        let mut consumers = stream.consumers();
        while let Some(consumer) = consumers
            .try_next()
            .await
            .map_err(|error| Error::Disconnected(Box::new(error)))?
        {
            let config = consumer.config;
            let unfiltered = config.filter_subject.is_empty() && config.filter_subjects.is_empty();
            let mut filters = config.filter_subjects.iter().chain([&config.filter_subject]);
            if unfiltered || filters.any(|filter| covers(filter, &subject)) {
                self.audience.remember(topic);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

//! Whether anybody would get what is published: asked of the server, for messages that must reach somebody.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::TryStreamExt;
use tokio::time::Instant;

use super::{link::Link, naming::covers};
use crate::{Error, Result, Topic};

/// How long a group that was seen is taken to be there. That none is there is asked anew each time.
const SEEN_FOR: Duration = Duration::from_secs(5);
/// Most topics that are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// Topics that somebody was seen to read, and when.
#[derive(Debug, Default)]
pub(super) struct Audience(Mutex<HashMap<Topic, Instant>>);

impl Audience {
    fn was_seen(&self, topic: &Topic) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(topic).is_some_and(|at| at.elapsed() < SEEN_FOR)
    }
    fn remember(&self, topic: &Topic) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED_MAX {
            seen.retain(|_, at| at.elapsed() < SEEN_FOR);
        }
        if seen.len() < REMEMBERED_MAX {
            seen.insert(topic.clone(), Instant::now());
        }
    }
}

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

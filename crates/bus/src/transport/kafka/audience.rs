//! Whether anybody would get what is published: asked of the brokers, for messages that must reach somebody.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::link::{ANSWER_WITHIN, Link, blocking, failure};
use crate::{Result, Topic};

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

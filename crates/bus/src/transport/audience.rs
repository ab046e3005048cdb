//! Topics that somebody is known to read: for messages that must reach somebody, so that the broker is not asked each time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::Topic;

/// How long a group that was seen is taken to be there. That none is there is asked anew each time.
const SEEN_FOR: Duration = Duration::from_secs(5);
/// Most topics that are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// Topics that somebody was seen to read, and when.
#[derive(Debug, Default)]
pub(crate) struct Audience(Mutex<HashMap<Topic, Instant>>);

impl Audience {
    pub(crate) fn was_seen(&self, topic: &Topic) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(topic).is_some_and(|at| at.elapsed() < SEEN_FOR)
    }
    pub(crate) fn remember(&self, topic: &Topic) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED_MAX {
            seen.retain(|_, at| at.elapsed() < SEEN_FOR);
        }
        if seen.len() < REMEMBERED_MAX {
            seen.insert(topic.clone(), Instant::now());
        }
    }
}

//! Who has ever subscribed, and to what: a mandatory message needs somebody.

use std::sync::{PoisonError, RwLock};

use sagamill_bus::Topic;

use crate::{EventStore, Result};

/// Before the names of all subscriptions that are a bus's.
const PREFIX: &str = "bus/";

/// The name of a group's subscription. Topics have no slashes in them.
pub(super) fn subscription(topic: &Topic, group: &str) -> String {
    format!("{PREFIX}{topic}/{group}")
}

/// What is known of it: a group that has subscribed once stays for ever.
#[derive(Debug, Default)]
pub(super) struct Audience(RwLock<Vec<Topic>>);

impl Audience {
    pub(super) fn add(&self, topic: &Topic) {
        if !self.knows(topic) {
            self.0
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .push(topic.clone());
        }
    }
    /// Whether any group has ever subscribed to a topic.
    pub(super) async fn takes(&self, store: &EventStore, topic: &Topic) -> Result<bool> {
        if self.knows(topic) {
            return Ok(true);
        }
        let mut last = String::new();
        for checkpoint in store.checkpoints().await? {
            // The shards of one subscription follow on each other.
            if checkpoint.name != last
                && let Some(of) = topic_of(&checkpoint.name)
            {
                self.add(&of);
            }
            last = checkpoint.name;
        }
        Ok(self.knows(topic))
    }
    fn knows(&self, topic: &Topic) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().any(|of| of.covers(topic))
    }
}

fn topic_of(name: &str) -> Option<Topic> {
    subscriber(name).map(|(topic, _)| topic)
}

/// The topic and the group of a subscription; none where it is no bus's.
pub(super) fn subscriber(name: &str) -> Option<(Topic, String)> {
    let (topic, group) = name.strip_prefix(PREFIX)?.split_once('/')?;
    Some((Topic::from(topic.to_owned()), group.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_says_what_it_is_to() {
        for group in ["inventory", "a/b", ""] {
            let name = subscription(&Topic::from("payment.*"), group);
            assert_eq!(topic_of(&name), Some(Topic::from("payment.*")));
            assert_eq!(subscriber(&name).map(|(_, group)| group).as_deref(), Some(group));
        }
        assert_eq!(topic_of("relay"), None);
    }
}

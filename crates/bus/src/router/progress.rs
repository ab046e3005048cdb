//! What is known of messages between a failed attempt and the next, in this process.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;
use tokio::time::Instant;

use crate::{MessageId, Topic};

/// How many messages are remembered; of the others all handlers run again, and the wait is reckoned by plan.
const MAX: usize = 4_096;

/// One message between its attempts.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// When it first failed here.
    pub(super) since: Option<Instant>,
    /// Which routes are done with it.
    pub(super) done: Vec<usize>,
    /// Why routes gave it up, where others are still trying.
    pub(super) deaths: Vec<String>,
    /// Why routes gave it up whose dead letters are published.
    pub(super) buried: Vec<String>,
    /// Why a route gave it up whose dead letter could not be published yet.
    pub(super) gave_up: Option<String>,
}

/// Remembers the newest; a message whose next attempt goes to another member would stay for ever else.
#[derive(Debug, Default)]
pub(super) struct Memory {
    messages: HashMap<(MessageId, Topic), (u64, Progress), FixedState>,
    by_age: BTreeMap<u64, (MessageId, Topic)>,
    next: u64,
}

impl Memory {
    pub(super) fn take(&mut self, id: MessageId, topic: &Topic) -> Option<Progress> {
        if self.messages.is_empty() {
            return None;
        }
        let (age, progress) = self.messages.remove(&(id, topic.clone()))?;
        self.by_age.remove(&age);
        Some(progress)
    }
    pub(super) fn put(&mut self, id: MessageId, topic: &Topic, progress: Progress) {
        self.next += 1;
        let key = (id, topic.clone());
        if let Some((age, _)) = self.messages.insert(key.clone(), (self.next, progress)) {
            self.by_age.remove(&age);
        }
        self.by_age.insert(self.next, key);
        if self.messages.len() > MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.messages.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{MAX, Memory, Progress};
    use crate::{MessageId, Topic};

    #[test]
    fn only_the_newest_are_remembered() {
        let (mut memory, topic) = (Memory::default(), Topic::from("order"));
        let id = |n: usize| MessageId(Uuid::from_u128(n as u128));
        for n in 0..=MAX {
            memory.put(
                id(n),
                &topic,
                Progress {
                    done: vec![n],
                    ..Progress::default()
                },
            );
        }
        memory.put(
            id(MAX),
            &topic,
            Progress {
                done: vec![7],
                ..Progress::default()
            },
        );
        assert!(memory.take(id(0), &topic).is_none());
        assert!(memory.take(id(1), &Topic::from("payment")).is_none());
        assert_eq!(memory.take(id(1), &topic).unwrap().done, [1]);
        assert_eq!(memory.take(id(MAX), &topic).unwrap().done, [7]);
        assert_eq!(memory.messages.len(), memory.by_age.len());
    }
}

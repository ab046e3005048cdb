//! The exchange and the queues, by the names they have on the broker.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_128;

use crate::Topic;

/// The longest parts of a queue's name that are there to be read: with the rest a name stays below AMQP's 255 bytes.
const READABLE_MAX: usize = 50;
/// The shortest wait, and the longest.
const WAIT: std::ops::RangeInclusive<u64> = 100..=30 * 24 * 60 * 60 * 1_000;

/// All names begin with one prefix, so that several applications can share a broker.
#[derive(Debug, Clone)]
pub(super) struct Names(String);

impl Names {
    /// None where the prefix cannot be part of all names.
    pub(super) fn new(prefix: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let fits = (1..=32).contains(&prefix.len()) && prefix.chars().all(allowed);
        fits.then(|| Self(prefix.to_owned()))
    }
    /// The exchange that all topics are published to.
    pub(super) fn exchange(&self) -> String {
        self.0.clone()
    }
    /// The queue of a group for a topic or pattern.
    pub(super) fn queue(&self, group: &str, topic: &Topic) -> String {
        self.of_group("group", group, topic)
    }
    /// Where a group's dead letters of a topic lie.
    pub(super) fn dead(&self, group: &str, topic: &Topic) -> String {
        self.of_group("dead", group, topic)
    }
    /// The queue that lists the queues of dead letters.
    pub(super) fn register(&self) -> String {
        format!("{}.register", self.0)
    }
    /// The queue that holds what is noted of one message of a queue.
    pub(super) fn note(&self, queue: &str, message: u128) -> String {
        let hash = xxh3_128([queue.as_bytes(), &message.to_be_bytes()].concat().as_slice());
        format!("{}.note.{hash:032x}", self.0)
    }
    fn of_group(&self, kind: &str, group: &str, topic: &Topic) -> String {
        let readable = |text: &str| -> String {
            let kept = text.chars().take(READABLE_MAX);
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '*');
            kept.map(|c| if plain(c) { c } else { '_' }).collect()
        };
        let hash = xxh3_128(format!("{group}\0{topic}").as_bytes());
        let (group, topic) = (readable(group), readable(topic.as_ref()));
        format!("{}.{kind}.{group}.{topic}.{hash:032x}", self.0)
    }
}

/// The queue in which messages of a queue wait for so many milliseconds.
pub(super) fn wait(queue: &str, milliseconds: u64) -> String {
    format!("{queue}.wait.{milliseconds}")
}

/// A time that many waits share, in milliseconds: at least as long as what is asked for, and at most half as long again.
pub(super) fn wait_step(after: Duration) -> u64 {
    let wanted = u64::try_from(after.as_millis())
        .unwrap_or(u64::MAX)
        .saturating_add(u64::from(!after.subsec_nanos().is_multiple_of(1_000_000)));
    let wanted = wanted.clamp(*WAIT.start(), *WAIT.end());
    let power = wanted.next_power_of_two();
    let between = power / 4 * 3;
    if between >= wanted { between } else { power }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Names, wait, wait_step};
    use crate::Topic;

    #[test]
    fn different_groups_and_topics_have_different_queues_of_valid_names() {
        let names = Names::new("sagamill").unwrap();
        let pairs = [
            ("a b", "x"),
            ("a_b", "x"),
            ("a.b", "x"),
            ("größe", "x.y"),
            ("größe", "x_y"),
            ("a", "x.*"),
            ("a", "x._"),
        ];
        let queues: std::collections::BTreeSet<String> = pairs
            .iter()
            .map(|(group, topic)| names.queue(group, &Topic::from(*topic)))
            .collect();
        assert_eq!(queues.len(), pairs.len());
        let long = Names::new(&"p".repeat(32)).unwrap();
        let topic = Topic::from("t".repeat(249));
        assert!(wait(&long.queue(&"g".repeat(500), &topic), 4_294_967_295).len() <= 255);
    }

    #[test]
    fn waits_are_never_shorter_and_little_longer_than_asked_for() {
        for asked in [1, 100, 101, 128, 129, 700, 1_000, 3_000, 60_000, 2_000_000_000] {
            let step = wait_step(Duration::from_millis(asked));
            assert!(step >= asked && step <= (asked + asked / 2).max(128), "{asked}: {step}");
        }
        assert_eq!(wait_step(Duration::from_nanos(128_000_001)), 192);
        assert!(u32::try_from(wait_step(Duration::MAX)).is_ok(), "as RabbitMQ takes it");
    }

    #[test]
    fn a_prefix_is_a_word() {
        for prefix in ["", "a.b", "a b", "*", &"x".repeat(33)] {
            assert!(Names::new(prefix).is_none(), "{prefix}");
        }
    }
}

//! Topics and consumer groups, by the names they have on the brokers.

use xxhash_rust::xxh3::xxh3_64;

use crate::{Error, Result, Topic};

/// The longest part of a name that is there to be read.
const READABLE_MAX: usize = 60;

/// Topics are named as they are, so that others can read and write them. What is ours alone begins with one prefix.
#[derive(Debug, Clone)]
pub(super) struct Names(String);

impl Names {
    /// None where the prefix cannot be part of all names.
    pub(super) fn new(prefix: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let fits = (1..=32).contains(&prefix.len()) && prefix.chars().all(allowed);
        fits.then(|| Self(prefix.to_owned()))
    }
    /// Whether a topic, or a pattern, may be used: not what Kafka or this transport keeps for itself.
    pub(super) fn check(&self, topic: &Topic) -> Result<()> {
        let name = topic.as_ref();
        let problem = if name.starts_with("__") {
            "Kafka keeps names that begin with `__` for itself"
        } else if name == self.dead() || name.starts_with(&self.all_again()) {
            "it is where this transport keeps what was given up"
        } else {
            return Ok(());
        };
        let topic = name.to_owned();
        Err(Error::InvalidTopic { topic, problem })
    }
    /// The topic of all dead letters.
    pub(super) fn dead(&self) -> String {
        format!("{}-dead", self.0)
    }
    /// The topic of what was requeued for one group.
    pub(super) fn again(&self, group: &str) -> String {
        let readable: String = group
            .chars()
            .take(READABLE_MAX)
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        format!("{}{readable}-{:016x}", self.all_again(), xxh3_64(group.as_bytes()))
    }
    fn all_again(&self) -> String {
        format!("{}-again-", self.0)
    }
    /// The consumer group of a group on a topic or pattern. No topic contains a colon, so no two are the same.
    pub(super) fn group_id(&self, group: &str, topic: &Topic) -> String {
        format!("{}:{topic}:{group}", self.0)
    }
    /// What a consumer group is subscribed to; none where it is somebody else's.
    pub(super) fn subscribed(&self, group_id: &str) -> Option<Topic> {
        self.subscriber(group_id).map(|(topic, _)| topic)
    }
    /// The topic and the group of a consumer group; none where it is somebody else's.
    pub(super) fn subscriber(&self, group_id: &str) -> Option<(Topic, String)> {
        let rest = group_id.strip_prefix(&self.0)?.strip_prefix(':')?;
        let (topic, group) = rest.split_once(':')?;
        Some((Topic::from(topic.to_owned()), group.to_owned()))
    }
    /// What a consumer subscribes to for a topic or pattern.
    pub(super) fn subscription(topic: &Topic) -> String {
        if !topic.is_pattern() {
            return topic.to_string();
        }
        let mut regex = String::from("^");
        for c in topic.as_ref().chars() {
            match c {
                '*' => regex.push_str("[^.]+"),
                '.' => regex.push_str("[.]"),
                c => regex.push(c),
            }
        }
        regex.push('$');
        regex
    }
    /// Topics that no pattern stands for: regular expressions, divided by commas.
    pub(super) fn hidden(&self) -> String {
        format!("^__,^{}-dead$", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Names;
    use crate::Topic;

    #[test]
    fn a_consumer_group_tells_its_topic_and_no_two_are_the_same() {
        let names = Names::new("sagamill").unwrap();
        let topic = Topic::from("payment.*");
        let id = names.group_id("a:b", &topic);
        assert_eq!(names.subscriber(&id), Some((topic.clone(), "a:b".to_owned())));
        assert_eq!(names.subscribed(&id), Some(topic));
        assert_ne!(
            names.group_id("b", &Topic::from("a")),
            names.group_id("a", &Topic::from("b"))
        );
        assert_eq!(names.subscribed("other:payment:a"), None);
    }

    #[test]
    fn different_groups_have_different_topics_for_what_comes_again() {
        let names = Names::new("sagamill").unwrap();
        let groups = ["a b", "a-b", "a.b", "größe", "grö.e"];
        let topics: std::collections::BTreeSet<String> = groups.iter().map(|group| names.again(group)).collect();
        assert_eq!(topics.len(), groups.len());
        assert!(topics.iter().all(|name| Topic::from(name.clone()).check_name().is_ok()));
        assert!(names.again(&"g".repeat(300)).len() <= Topic::MAX);
    }

    #[test]
    fn what_is_kept_by_kafka_or_by_us_is_no_topic() {
        let names = Names::new("sagamill").unwrap();
        let refused = ["__consumer_offsets".to_owned(), names.dead(), names.again("g")];
        for name in refused {
            assert!(names.check(&Topic::from(name)).is_err());
        }
        assert!(names.check(&Topic::from("sagamill-deadlines")).is_ok());
        for prefix in ["", "a.b", "a_b", &"x".repeat(33)] {
            assert!(Names::new(prefix).is_none(), "{prefix}");
        }
    }

    #[test]
    fn a_star_is_one_word() {
        assert_eq!(Names::subscription(&Topic::from("a.*.c")), "^a[.][^.]+[.]c$");
        assert_eq!(Names::subscription(&Topic::from("a.b")), "a.b");
    }
}

//! Streams, subjects and consumers, by the names they have on the server.

use std::fmt::Write;

use xxhash_rust::xxh3::xxh3_128;

use crate::{MessageId, Topic};

/// The longest part of a consumer's name that is there to be read.
const READABLE_MAX: usize = 60;

/// All names begin with one prefix, so that several applications can share a server.
#[derive(Debug, Clone)]
pub(super) struct Names(String);

impl Names {
    /// None where the prefix cannot be part of all names.
    pub(super) fn new(prefix: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let fits = (1..=32).contains(&prefix.len()) && prefix.chars().all(allowed);
        fits.then(|| Self(prefix.to_owned()))
    }
    /// The stream of all topics.
    pub(super) fn stream(&self) -> String {
        self.0.clone()
    }
    /// The stream of dead letters.
    pub(super) fn dead_stream(&self) -> String {
        format!("{}-dead", self.0)
    }
    /// The stream of notes.
    pub(super) fn note_stream(&self) -> String {
        format!("{}-note", self.0)
    }
    pub(super) fn stream_subjects(&self) -> Vec<String> {
        vec![self.topic_subjects(), format!("{}.again.>", self.0)]
    }
    /// All that is published, without what was requeued.
    pub(super) fn topic_subjects(&self) -> String {
        format!("{}.topic.>", self.0)
    }
    pub(super) fn dead_subjects(&self) -> String {
        format!("{}.dead.>", self.0)
    }
    pub(super) fn note_subjects(&self) -> String {
        format!("{}.note.>", self.0)
    }
    /// Where a topic, or what a pattern covers, is published.
    pub(super) fn topic(&self, topic: &Topic) -> String {
        format!("{}.topic.{topic}", self.0)
    }
    /// Where a message is published again for one group.
    pub(super) fn again(&self, group: &str, topic: &Topic) -> String {
        format!("{}.again.{}.{topic}", self.0, word(group))
    }
    /// The topic of a message of the topics' stream; none where it is somebody else's.
    pub(super) fn topic_of(&self, subject: &str) -> Option<Topic> {
        let rest = subject.strip_prefix(&self.0)?.strip_prefix('.')?;
        let topic = match rest.split_once('.')? {
            ("topic", topic) => topic,
            ("again", rest) => rest.split_once('.')?.1,
            _ => return None,
        };
        Some(Topic::from(topic.to_owned()))
    }
    /// Where one dead letter lies.
    pub(super) fn dead(&self, topic: &Topic, group: &str, id: MessageId) -> String {
        format!("{}.dead.{}.{topic}.{id}", self.0, word(group))
    }
    /// Where all dead letters of a topic and group lie.
    pub(super) fn all_dead(&self, topic: &Topic, group: &str) -> String {
        format!("{}.dead.{}.{topic}.*", self.0, word(group))
    }
    /// The topic and group of a dead letter.
    pub(super) fn queue_of(&self, subject: &str) -> Option<(Topic, String)> {
        let rest = subject.strip_prefix(&self.0)?.strip_prefix(".dead.")?;
        let (group, rest) = rest.split_once('.')?;
        let (topic, _) = rest.rsplit_once('.')?;
        Some((Topic::from(topic.to_owned()), unword(group)?))
    }
    /// The note of one message of a consumer.
    pub(super) fn note(&self, consumer: &str, sequence: u64) -> String {
        format!("{}.note.{consumer}.{sequence}", self.0)
    }
}

/// A consumer's name: one to be read, made unique by a hash.
pub(super) fn consumer(group: &str, topic: &Topic) -> String {
    let readable = |text: &str| -> String {
        let kept = text.chars().take(READABLE_MAX);
        kept.map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .collect()
    };
    let hash = xxh3_128(format!("{group}\0{topic}").as_bytes());
    format!("{}-{}-{hash:032x}", readable(group), readable(topic.as_ref()))
}

/// A group's name as one word of a subject; different names are different words.
fn word(name: &str) -> String {
    let mut word = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            word.push(char::from(byte));
        } else {
            let _ = write!(word, "={byte:02x}");
        }
    }
    word
}

fn unword(word: &str) -> Option<String> {
    let mut parts = word.split('=');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Whether a consumer that filters by one subject gets what is published on another.
pub(super) fn covers(filter: &str, subject: &str) -> bool {
    let mut words = subject.split('.');
    for wanted in filter.split('.') {
        match (wanted, words.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(word)) if wanted == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{Names, consumer, covers, unword, word};
    use crate::{MessageId, Topic};

    #[test]
    fn different_groups_and_topics_have_different_consumers_of_valid_names() {
        let pairs = [
            ("a b", "x"),
            ("a_b", "x"),
            ("a.b", "x"),
            ("größe", "x.y"),
            ("größe", "x_y"),
            ("a", "x.*"),
            ("a", "x._"),
        ];
        let names: std::collections::BTreeSet<String> = pairs
            .iter()
            .map(|(group, topic)| consumer(group, &Topic::from(*topic)))
            .collect();
        assert_eq!(names.len(), pairs.len());
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        assert!(names.iter().all(|name| name.chars().all(allowed) && name.len() < 200));
        assert!(consumer(&"g".repeat(500), &Topic::from("t".repeat(249))).len() < 200);
    }

    #[test]
    fn a_group_is_one_word_and_can_be_read_back() {
        for group in ["plain", "with.dot", "größe 7", "=3d", "a*>", ""] {
            assert!(!word(group).contains(['.', '*', '>', ' ']));
            assert_eq!(unword(&word(group)).as_deref(), Some(group));
        }
        assert_eq!(unword("=g0"), None);
    }

    #[test]
    fn topics_and_queues_are_read_from_their_subjects() {
        let names = Names::new("sagamill").unwrap();
        let topic = Topic::from("payment.card");
        assert_eq!(names.topic_of(&names.topic(&topic)), Some(topic.clone()));
        assert_eq!(names.topic_of(&names.again("a.b", &topic)), Some(topic.clone()));
        assert_eq!(names.topic_of("other.topic.payment"), None);
        let dead = names.dead(&topic, "a.b", MessageId(Uuid::nil()));
        assert_eq!(names.queue_of(&dead), Some((topic.clone(), "a.b".to_owned())));
        assert!(covers(&names.all_dead(&topic, "a.b"), &dead));
    }

    #[test]
    fn a_filter_covers_whole_words() {
        assert!(covers("a.>", "a.b.c") && covers("a.*", "a.b") && covers("a.b", "a.b"));
        assert!(!covers("a.>", "a") && !covers("a.*", "a.b.c") && !covers("a.b", "a") && !covers("a", "a.b"));
    }

    #[test]
    fn a_prefix_is_a_word() {
        for prefix in ["", "a.b", "a b", "*", &"x".repeat(33)] {
            assert!(Names::new(prefix).is_none(), "{prefix}");
        }
    }
}

//! Names of topics, and patterns of names.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::{Error, Result};

/// Where messages are published; the transport maps it to its topic, subject, queue or table.
///
/// Names are words divided by dots: `order`, `inventory.commands`. In a subscription a word may be `*`, which stands for any
/// one word: `payment.*` is `payment.card`, but neither `payment` nor `payment.card.visa`.
#[derive(Clone)]
pub struct Topic(Name);

#[derive(Clone)]
enum Name {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Topic {
    /// The most bytes of a name.
    pub const MAX: usize = 249;

    /// Whether it stands for several topics.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.words().any(|word| word == "*")
    }
    /// Whether a topic, or every topic of a pattern, is one of these.
    #[must_use]
    pub fn covers(&self, other: &Topic) -> bool {
        let (mut own, mut others) = (self.words(), other.words());
        loop {
            match (own.next(), others.next()) {
                (None, None) => return true,
                (Some(own), Some(other)) if own == "*" || own == other => {}
                _ => return false,
            }
        }
    }
    /// Whether it can be published to.
    ///
    /// # Errors
    /// [`Error::InvalidTopic`]
    pub fn check_name(&self) -> Result<()> {
        self.check_pattern()?;
        if self.is_pattern() {
            Err(self.invalid("a pattern can only be subscribed to"))
        } else {
            Ok(())
        }
    }
    /// Whether it can be subscribed to.
    ///
    /// # Errors
    /// [`Error::InvalidTopic`]
    pub fn check_pattern(&self) -> Result<()> {
        let name = self.as_ref();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*');
        if name.len() > Self::MAX {
            return Err(self.invalid("it has more than 249 bytes"));
        }
        if !name.chars().all(allowed) {
            return Err(self.invalid("only ASCII letters, digits, `.`, `_`, `-` are carried by every broker"));
        }
        if self.words().any(str::is_empty) {
            return Err(self.invalid("a word between its dots is empty"));
        }
        if self.words().any(|word| word.contains('*') && word != "*") {
            return Err(self.invalid("`*` stands for a whole word"));
        }
        Ok(())
    }
    /// The name, shared where it is not static.
    pub(crate) fn label(&self) -> metrics::SharedString {
        match &self.0 {
            Name::Static(name) => metrics::SharedString::const_str(name),
            Name::Shared(name) => metrics::SharedString::from_shared(Arc::clone(name)),
        }
    }
    fn words(&self) -> impl Iterator<Item = &str> {
        self.as_ref().split('.')
    }
    fn invalid(&self, problem: &'static str) -> Error {
        Error::InvalidTopic {
            topic: self.to_string(),
            problem,
        }
    }
}

impl From<&'static str> for Topic {
    fn from(name: &'static str) -> Self {
        Self(Name::Static(name))
    }
}
impl From<String> for Topic {
    fn from(name: String) -> Self {
        Self(Name::Shared(name.into()))
    }
}
impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        match &self.0 {
            Name::Static(name) => name,
            Name::Shared(name) => name,
        }
    }
}
impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_ref())
    }
}
impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_ref(), f)
    }
}
impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}
impl Eq for Topic {}
impl PartialOrd for Topic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Topic {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_ref().cmp(other.as_ref())
    }
}
impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::Topic;

    #[test]
    fn a_star_stands_for_one_whole_word() {
        let covers = |pattern: &'static str, name: &'static str| Topic::from(pattern).covers(&Topic::from(name));
        assert!(covers("payment.*", "payment.card"));
        assert!(covers("*.commands", "inventory.commands"));
        assert!(covers("payment.*", "payment.*"));
        assert!(covers("*.*", "payment.*"));
        assert!(!covers("payment.*", "*.*"));
        assert!(!covers("payment.*", "payment"));
        assert!(!covers("payment.*", "payment.card.visa"));
        assert!(!covers("payment.card", "payment.*"));
    }

    #[test]
    fn names_that_some_broker_refuses_are_refused_everywhere() {
        for name in ["", ".", "a..b", "order placed", "größe", "pay*", "a/b"] {
            assert!(Topic::from(name).check_pattern().is_err(), "{name}");
        }
        assert!(Topic::from("x".repeat(250)).check_name().is_err());
        assert!(Topic::from("payment.*").check_name().is_err());
        assert!(Topic::from("payment.*").check_pattern().is_ok());
        assert!(Topic::from("place-order.v1.replies").check_name().is_ok());
    }
}

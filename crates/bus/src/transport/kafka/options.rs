//! How Kafka is connected to.

use std::{fmt, path::PathBuf, time::Duration};

use super::Kafka;
use crate::{Bus, Result, Wire};

/// How a user signs in. What begins with `Scram` needs the feature `kafka-tls`, also where nothing is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mechanism {
    /// `PLAIN`: the password goes to the broker as it is, so only over TLS or a network of one's own.
    #[default]
    Plain,
    /// `SCRAM-SHA-256`
    ScramSha256,
    /// `SCRAM-SHA-512`
    ScramSha512,
}

impl Mechanism {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    /// As brokers and URLs name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// How Kafka is connected to. What concerns topics holds where they are made; topics that are there keep their settings.
#[derive(Clone)]
pub struct Options {
    pub(super) url: String,
    pub(super) mechanism: Mechanism,
    pub(super) ca: Option<PathBuf>,
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    pub(super) prefix: String,
    pub(super) partitions: i32,
    pub(super) replicas: Option<i32>,
    pub(super) keep: Option<Duration>,
    pub(super) confirm_within: Duration,
    pub(super) drain_within: Duration,
    pub(super) session: Duration,
    pub(super) span: usize,
    pub(super) find_topics_every: Duration,
    pub(super) properties: Vec<(String, String)>,
    pub(super) wire: Wire,
}

impl Options {
    pub(super) fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            mechanism: Mechanism::default(),
            ca: None,
            identity: None,
            prefix: "sagamill".to_owned(),
            partitions: 8,
            replicas: None,
            keep: None,
            confirm_within: Duration::from_secs(5),
            drain_within: Duration::from_secs(5),
            session: Duration::from_secs(10),
            span: 10_000,
            find_topics_every: Duration::from_secs(10),
            properties: Vec::new(),
            wire: Wire::default(),
        }
    }
    /// What the names of consumer groups, and of the topics that are this transport's own, begin with: letters, digits and
    /// `-`; `sagamill` unless said otherwise. Applications with different prefixes share topics, but no groups.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            ..self
        }
    }
    /// How the user of the URL signs in: `PLAIN`, unless the URL says `?mechanism=`.
    #[must_use]
    pub fn mechanism(self, mechanism: Mechanism) -> Self {
        Self { mechanism, ..self }
    }
    /// A PEM file of those whose signature under a broker's certificate is believed: those that the system believes, unless the
    /// URL says `?ca=`.
    #[must_use]
    pub fn ca(self, file: impl Into<PathBuf>) -> Self {
        Self {
            ca: Some(file.into()),
            ..self
        }
    }
    /// PEM files of a certificate and its key, by which brokers know this client; none, unless the URL says `?certificate=` and
    /// `&key=`.
    #[must_use]
    pub fn identity(self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            identity: Some((certificate.into(), key.into())),
            ..self
        }
    }
    /// How many partitions a topic is made with, at least 1: 8. As many processes of a group have a share of it.
    #[must_use]
    pub fn partitions(self, partitions: u16) -> Self {
        Self {
            partitions: i32::from(partitions.max(1)),
            ..self
        }
    }
    /// On how many brokers each message lies; what the brokers take for themselves unless said otherwise.
    #[must_use]
    pub fn replicas(self, replicas: u16) -> Self {
        Self {
            replicas: Some(i32::from(replicas.max(1))),
            ..self
        }
    }
    /// How long messages are kept, read or not; as long as the brokers say unless said otherwise, which is 7 days.
    #[must_use]
    pub fn keep(self, keep: Duration) -> Self {
        Self {
            keep: Some(keep),
            ..self
        }
    }
    /// How long a publish or a note waits for the broker's answer: 5 s.
    #[must_use]
    pub fn confirm_within(self, confirm_within: Duration) -> Self {
        Self { confirm_within, ..self }
    }
    /// How long handlers may take to finish when their partition goes to another process; what they settle later is stale:
    /// 5 s.
    #[must_use]
    pub fn drain_within(self, drain_within: Duration) -> Self {
        Self { drain_within, ..self }
    }
    /// How long a process may be silent before its partitions go to others: 10 s, as the leases of all else here;
    /// at least 1 s, and brokers may ask for 6 s. A killed process is missed for so long.
    #[must_use]
    pub fn session_timeout(self, session: Duration) -> Self {
        Self {
            session: session.max(Duration::from_secs(1)),
            ..self
        }
    }
    /// How far a partition may go ahead of its first unsettled message, in messages: 10,000. So many come again at most after
    /// a crash.
    #[must_use]
    pub fn span(self, span: usize) -> Self {
        Self {
            span: span.max(1),
            ..self
        }
    }
    /// How often a pattern looks for new topics: 10 s. They are read from their beginning.
    #[must_use]
    pub fn find_topics_every(self, every: Duration) -> Self {
        Self {
            find_topics_every: every.max(Duration::from_millis(100)),
            ..self
        }
    }
    /// Sets a property of librdkafka that this type has no name for, for all of the connection: `client.rack`. Those that the
    /// transport relies on cannot be set.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }
    /// The form in which messages are published: CloudEvents' binding, or that of services on Watermill for Go; unless the URL
    /// says `?wire=`.
    #[must_use]
    pub fn wire(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Disconnected`](crate::Error::Disconnected) where no broker answers;
    /// [`Error::Unusable`](crate::Error::Unusable) where they refuse the credentials, where one side does not believe the other's
    /// certificate, or a setting is none; [`Error::FeatureOff`](crate::Error::FeatureOff) for `kafkas:` without the feature
    /// `kafka-tls`.
    pub async fn connect(mut self) -> Result<Bus> {
        self.wire = Wire::take(&mut self.url)?.unwrap_or(self.wire);
        Ok(Bus::new(Kafka::connect(self).await?))
    }
}

impl fmt::Debug for Options {
    /// Without the URL and the properties, for their passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

//! How RabbitMQ is connected to.

use std::{fmt, time::Duration};

use super::Amqp;
use crate::{Bus, Result, Wire};

/// How RabbitMQ is connected to.
#[derive(Clone)]
pub struct Options {
    pub(super) url: String,
    pub(super) prefix: String,
    pub(super) heartbeat: Duration,
    pub(super) confirm_within: Duration,
    pub(super) reconnect_within: Duration,
    pub(super) wire: Wire,
}

impl Options {
    pub(super) fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "sagamill".to_owned(),
            heartbeat: Duration::from_secs(10),
            confirm_within: Duration::from_secs(5),
            reconnect_within: Duration::from_secs(5),
            wire: Wire::default(),
        }
    }
    /// What the names of the exchange and of all queues begin with: one word of letters, digits, `_` and `-`; `sagamill` unless
    /// said otherwise. Applications with different prefixes do not see each other.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            ..self
        }
    }
    /// How often both sides give a sign of life, in whole seconds: 10 s, unless the URL says `?heartbeat=`. A connection that
    /// is silent for twice as long is given up.
    #[must_use]
    pub fn heartbeat(self, heartbeat: Duration) -> Self {
        Self { heartbeat, ..self }
    }
    /// How long a publish, or any question, waits for the broker's answer: 5 s.
    #[must_use]
    pub fn confirm_within(self, confirm_within: Duration) -> Self {
        Self { confirm_within, ..self }
    }
    /// How long a publish waits for a lost connection to come back: 5 s.
    #[must_use]
    pub fn reconnect_within(self, reconnect_within: Duration) -> Self {
        Self {
            reconnect_within,
            ..self
        }
    }
    /// The form in which messages are published: CloudEvents' binding, or that of services on Watermill for Go; unless the URL
    /// says `?wire=`.
    #[must_use]
    pub fn wire(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }
    /// Connects, and declares the exchange.
    ///
    /// # Errors
    /// [`Error::Disconnected`](crate::Error::Disconnected) where no broker answers;
    /// [`Error::Unusable`](crate::Error::Unusable) where it refuses the credentials or the virtual host, or where the exchange
    /// is there as something else; [`Error::FeatureOff`](crate::Error::FeatureOff) for `amqps:` without the feature `amqp-tls`.
    pub async fn connect(mut self) -> Result<Bus> {
        self.wire = Wire::take(&mut self.url)?.unwrap_or(self.wire);
        Ok(Bus::new(Amqp::connect(self).await?))
    }
}

impl fmt::Debug for Options {
    /// Without the URL, for its password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("prefix", &self.prefix)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}

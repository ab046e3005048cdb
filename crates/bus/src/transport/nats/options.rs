//! How NATS is connected to.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::jetstream::stream::StorageType;

use super::Nats;
use crate::{Bus, Result, Wire};

/// Where the server keeps messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Storage {
    /// In files. The server writes them to disk by itself every two minutes: where a power cut must lose nothing of what was
    /// confirmed, set its `sync_interval` to `always`, or have replicas.
    #[default]
    File,
    /// In memory: gone when the server ends.
    Memory,
}

impl Storage {
    /// As the client has it, which shows nowhere in public.
    pub(super) fn of_client(self) -> StorageType {
        match self {
            Self::File => StorageType::File,
            Self::Memory => StorageType::Memory,
        }
    }
}

/// How NATS is connected to. What concerns streams holds where they are made; streams that are there keep their settings.
#[derive(Clone)]
pub struct Options {
    pub(super) url: String,
    pub(super) prefix: String,
    pub(super) credentials: Option<PathBuf>,
    pub(super) ack_wait: Duration,
    pub(super) duplicate_window: Duration,
    pub(super) confirm_within: Duration,
    pub(super) reconnect_within: Duration,
    pub(super) keep: Option<Duration>,
    pub(super) replicas: usize,
    pub(super) storage: Storage,
    pub(super) wire: Wire,
}

impl Options {
    pub(super) fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "sagamill".to_owned(),
            credentials: None,
            ack_wait: Duration::from_secs(30),
            duplicate_window: Duration::from_secs(120),
            confirm_within: Duration::from_secs(5),
            reconnect_within: Duration::from_secs(5),
            keep: None,
            replicas: 1,
            storage: Storage::default(),
            wire: Wire::default(),
        }
    }
    /// What the names of all streams and subjects begin with: one word of letters, digits, `_` and `-`; `sagamill` unless said
    /// otherwise. Applications with different prefixes do not see each other.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            ..self
        }
    }
    /// A file with a JWT and an nkey, as `nsc` writes it.
    #[must_use]
    pub fn credentials(self, file: impl Into<PathBuf>) -> Self {
        Self {
            credentials: Some(file.into()),
            ..self
        }
    }
    /// How long the server waits for a sign of life before it gives a message to somebody else: 30 s, at least 1 s. A handler
    /// may take longer, since signs of life are sent for it.
    #[must_use]
    pub fn ack_wait(self, ack_wait: Duration) -> Self {
        Self {
            ack_wait: ack_wait.max(Duration::from_secs(1)),
            ..self
        }
    }
    /// How long the server remembers what was published, to drop repeats: 2 minutes.
    #[must_use]
    pub fn duplicate_window(self, duplicate_window: Duration) -> Self {
        Self {
            duplicate_window,
            ..self
        }
    }
    /// How long a publish or a settlement waits for the server's answer: 5 s.
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
    /// How long messages are kept, read or not; for ever unless said otherwise.
    #[must_use]
    pub fn keep(self, keep: Duration) -> Self {
        Self {
            keep: Some(keep),
            ..self
        }
    }
    /// On how many servers of a cluster each message lies: 1, 3 or 5.
    #[must_use]
    pub fn replicas(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }
    /// Where the server keeps messages.
    #[must_use]
    pub fn storage(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }
    /// The form in which messages are published: CloudEvents' binding, or that of services on Watermill for Go; unless the URL
    /// says `?wire=`.
    #[must_use]
    pub fn wire(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }
    /// Connects, and makes the streams where they are not there.
    ///
    /// # Errors
    /// [`Error::Disconnected`](crate::Error::Disconnected) where no server answers;
    /// [`Error::Unusable`](crate::Error::Unusable) where it is older than 2.10, has JetStream off, or refuses the credentials.
    pub async fn connect(mut self) -> Result<Bus> {
        self.wire = Wire::take(&mut self.url)?.unwrap_or(self.wire);
        Ok(Bus::new(Nats::connect(self).await?))
    }
}

impl fmt::Debug for Options {
    /// Without the URL, for its password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("prefix", &self.prefix)
            .field("ack_wait", &self.ack_wait)
            .finish_non_exhaustive()
    }
}

//! What can go wrong with a log, and what to do about it.

use sagamill_bus::BoxError;
use uuid::Uuid;

use crate::{Anchor, Expected, Position, StreamId, Version};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between the caller and the log.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody else appended first: load again, decide again.
    #[error("stream `{stream}` is at version {actual}, which is not {expected:?}")]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// What the caller wanted it to be.
        expected: Expected,
        /// What it is; 0: it has no event.
        actual: Version,
    },
    /// Another append of the same batch, a guard or the lease failed: nothing of this batch is stored.
    #[error("stream `{stream}` has gone on to position {at}, after what the guard allows")]
    Guarded {
        /// The guarded stream.
        stream: StreamId,
        /// Its last event.
        at: Position,
    },
    /// The event id is known, with another stream or other content: ids must not be used twice.
    #[error("event id {0} was used before, for something else")]
    IdReused(Uuid),
    /// Events that were to join a transaction are in the log already, and with them whatever the first transaction did:
    /// roll this one back.
    #[error("event {0} is in the log already, with the effect that it was appended with: roll this transaction back")]
    Repeated(Uuid),
    /// The stream has been closed.
    #[error("stream `{0}` is closed")]
    Closed(StreamId),
    /// Another process has taken over this lease: stop working under it.
    #[error("another process holds the lease of `{name}`, shard {shard}")]
    Fenced {
        /// The subscription.
        name: String,
        /// Its shard.
        shard: u16,
    },
    /// The log is not the one that the consumer has read: its tail was lost, by a failover, a restored backup or a copied
    /// file. An operator decides: rewind to the last common anchor, or accept.
    #[error("the log went another way at position {}: `{name}` has read an event there that is not in it (last common position {common})", at.position)]
    LogDiverged {
        /// The subscription.
        name: String,
        /// Its checkpoint.
        at: Anchor,
        /// The last anchor that both histories share.
        common: Position,
    },
    /// A limit is passed, or a name is not allowed: nothing is stored.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it, and the limit.
        what: String,
    },
    /// The stored bytes do not fit the type asked for: add an upcaster.
    #[error("an event of type `{name}` cannot be encoded or decoded")]
    Codec {
        /// The event's type.
        name: String,
        /// What the codec says.
        source: std::sync::Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The URL names a store that this build leaves out.
    #[error("`{scheme}:` needs the feature `{feature}`: cargo add sagamill --features {feature}")]
    FeatureOff {
        /// The URL's scheme.
        scheme: String,
        /// The feature that has it.
        feature: &'static str,
    },
    /// No store answers to the URL.
    #[error("no store for `{scheme}:`; known are memory, sqlite, postgres")]
    UnknownScheme {
        /// The URL's scheme.
        scheme: String,
    },
    /// The database says no for now, or does not answer, without effect: locked, busy, disk full, not there. Try again.
    #[error("the database cannot take it now: {what}")]
    Unavailable {
        /// What the database says.
        what: String,
    },
    /// The database cannot hold the log, or refuses: it is missing, read-only, damaged, too old, or of a newer build; the user
    /// or a right is not known.
    #[error("the database cannot be used: {what}")]
    Unusable {
        /// What the database says.
        what: String,
    },
    /// The connection broke in mid-commit: it may be stored or not. Append again under the same ids.
    #[error("it is not known whether the commit went through")]
    Unknown(#[source] std::sync::Arc<dyn std::error::Error + Send + Sync>),
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] std::sync::Arc<dyn std::error::Error + Send + Sync>),
    /// The store has been closed.
    #[error("the store is closed")]
    ShutDown,
}

impl Error {
    /// Whether the same call, with the same ids, may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. } | Self::Unavailable { .. } | Self::Unknown(_) | Self::Database(_)
        )
    }
    /// A failure of the database.
    pub fn database(source: impl Into<BoxError>) -> Self {
        Self::Database(source.into().into())
    }
}

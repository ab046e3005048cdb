//! A saga whose definition this process does not know: what can be told, and done, from its events alone.

use std::sync::Arc;

use jiff::Timestamp;
use sagamill_bus::MessageId;
use sagamill_eventstore::NewEvent;

use super::{
    Decided, Entry, Fact, Identity, ParkReason, Parked, SagaEvent, Summary, SummaryState, codec::encode, react::millis,
};

/// A saga's events, folded without its definition.
#[derive(Debug, Clone)]
pub(crate) struct Orphan {
    identity: Identity,
    digest: u64,
    summary: Summary,
}

impl Orphan {
    /// Folds one more event in; none: the saga's first, which names the digest.
    pub(crate) fn fold(orphan: Option<Self>, entry: &Entry, digest: u64) -> Self {
        match orphan {
            Some(orphan) => Self {
                summary: Summary::fold(Some(orphan.summary), entry),
                ..orphan
            },
            None => Self {
                identity: entry.identity.clone(),
                digest,
                summary: Summary::fold(None, entry),
            },
        }
    }
    /// The version of its stream.
    pub(crate) fn version(&self) -> i64 {
        self.summary.events
    }
    /// Whether it goes on by itself, where somebody knows how.
    pub(crate) fn is_running(&self) -> bool {
        self.summary.state == SummaryState::Running
    }
    /// Whether nothing will happen to it any more.
    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.summary.state, SummaryState::Completed | SummaryState::Compensated)
    }
    /// The event that parks it, to be appended after [`version`](Self::version).
    pub(crate) fn park(&self, now: Timestamp, text: String, process: &str) -> NewEvent {
        let stream: Arc<str> = self.identity.stream().into();
        let ordinal = u32::try_from(self.version() & i64::from(u32::MAX)).unwrap_or_default();
        let parked = Parked {
            ask: None,
            reason: ParkReason::UnknownDefinition,
            text,
        };
        let decided = Decided {
            cause: MessageId::derived(self.identity.instance, &format!("{stream}/unknown"), ordinal).0,
            ordinal: 0,
            event: SagaEvent {
                at: millis(now).max(self.summary.updated_at),
                hash: None,
                begun: Vec::new(),
                fact: Fact::Parked(parked),
            },
        };
        encode(&self.identity, self.digest, &decided, process)
    }
}

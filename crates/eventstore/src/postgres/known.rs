//! What one server connection's writer remembers, to save the server looking things up. All of it is a guess, which
//! `es.append` tests before it believes it; it goes with its connection, and after every error.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::StreamId;

/// Most streams whose versions are remembered; beyond it, all are forgotten.
const STREAMS: usize = 200_000;
/// How often staged rows are looked for from the beginning, in case the low mark passed one by.
const SWEEP: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Known {
    /// The head after the last call: its position, and the event there.
    pub(super) head: Option<(i64, Option<Uuid>)>,
    versions: HashMap<StreamId, i64, foldhash::fast::RandomState>,
    low: Low,
}

/// Up to where staged rows are settled: see `es.drain_locked`.
#[derive(Debug)]
struct Low {
    mark: i64,
    /// A mark that counts as soon as this transaction, and all before it, have ended.
    next: Option<Mark>,
    swept: Instant,
}

/// The last id that had been drawn for a staged row, before a transaction drew its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) id: i64,
    pub(super) transaction: i64,
}

impl Known {
    pub(super) fn nothing() -> Self {
        let low = Low {
            mark: 0,
            next: None,
            swept: Instant::now(),
        };
        Self {
            head: None,
            versions: HashMap::default(),
            low,
        }
    }
    /// After an error: whatever it left, it is looked up again.
    pub(super) fn forget(&mut self) {
        *self = Self::nothing();
    }
    pub(super) fn version(&self, stream: &StreamId) -> Option<i64> {
        self.versions.get(stream).copied()
    }
    pub(super) fn learn(&mut self, stream: &StreamId, version: i64) {
        if self.versions.len() >= STREAMS {
            self.versions.clear();
        }
        self.versions.insert(stream.clone(), version);
    }
    /// A stream has come to at least this version.
    pub(super) fn raise(&mut self, stream: &str, version: i64) {
        if let Some(known) = self.versions.get_mut(&StreamId::from(stream)) {
            *known = version.max(*known);
        }
    }
    pub(super) fn unlearn(&mut self, stream: &StreamId) {
        self.versions.remove(stream);
    }
    /// Somebody else has written, or the log went another way, since the last call.
    pub(super) fn unlearn_all(&mut self, base: i64) {
        self.versions.clear();
        if self.head.is_some_and(|(head, _)| base < head) {
            self.low.mark = 0;
            self.low.next = None;
        }
    }

    /// The mark for the next drain.
    pub(super) fn low(&mut self) -> i64 {
        if self.low.swept.elapsed() > SWEEP {
            self.low.mark = 0;
            self.low.swept = Instant::now();
        }
        self.low.mark
    }
    /// What a drain says that took all it saw.
    pub(super) fn drained(&mut self, oldest_running: i64, mark: Option<Mark>) {
        if let Some(next) = self.low.next.filter(|next| oldest_running >= next.transaction) {
            self.low.mark = self.low.mark.max(next.id);
            self.low.next = None;
        }
        self.low.next = self.low.next.or(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::{Known, Mark};

    #[test]
    fn low_mark_waits_for_all_who_may_have_staged_below_it() {
        let mut known = Known::nothing();
        let mark = |id, transaction| Some(Mark { id, transaction });
        known.drained(100, mark(7, 110));
        assert_eq!(known.low(), 0);
        known.drained(109, mark(9, 120));
        assert_eq!(known.low(), 0, "transaction 109 may still be running");
        known.drained(110, mark(11, 130));
        assert_eq!(known.low(), 7);
        known.drained(130, None);
        assert_eq!(known.low(), 11);
        known.head = Some((5, None));
        known.unlearn_all(4);
        assert_eq!(known.low(), 0, "another history may have drawn the same ids again");
    }
}

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
/// How long the low mark waits for transactions that may have staged below it, before it passes without them.
const LATE: Duration = Duration::from_millis(100);
/// Most transactions that it passes without.
const LATE_MAX: usize = 16;

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
    /// A mark that counts as soon as this transaction, and all before it, have ended; and since when it waits.
    next: Option<(Mark, Instant)>,
    /// Transactions that it has passed without, as far as they are known to run.
    late: Vec<i64>,
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
            late: Vec::new(),
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
            self.low.late.clear();
        }
    }

    /// The mark for the next drain.
    pub(super) fn low(&mut self, now: Instant) -> i64 {
        let low = &mut self.low;
        if now.saturating_duration_since(low.swept) > SWEEP {
            (low.mark, low.swept) = (0, now);
            low.late.clear();
        }
        low.mark
    }
    /// The transactions that the mark has passed without. None: there are none, and it is not asked which ones run.
    pub(super) fn late(&self, now: Instant) -> Option<Vec<i64>> {
        let low = &self.low;
        let waits = low.next.is_some_and(|(_, since)| is_late(since, now));
        (waits || !low.late.is_empty()).then(|| low.late.clone())
    }
    /// What a drain says that took all it saw, of which it is known at the least which transactions had ended.
    pub(super) fn drained(&mut self, oldest_running: i64, running: Option<&[i64]>, mark: Option<Mark>, now: Instant) {
        let low = &mut self.low;
        // Who has ended meanwhile was looked for from the beginning.
        low.late
            .retain(|late| running.is_some_and(|running| running.contains(late)));
        if let Some((next, since)) = low.next {
            if oldest_running >= next.transaction {
                (low.mark, low.next) = (low.mark.max(next.id), None);
            } else if let Some(running) = running.filter(|_| is_late(since, now)) {
                let late: Vec<i64> = running.iter().copied().filter(|one| *one < next.transaction).collect();
                if late.len() <= LATE_MAX {
                    // Those that it has passed before are among them.
                    (low.mark, low.next, low.late) = (low.mark.max(next.id), None, late);
                }
            }
        }
        if low.next.is_none() {
            low.next = mark.map(|mark| (mark, now));
        }
    }
}

fn is_late(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) > LATE
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Known, LATE, LATE_MAX, Mark, SWEEP};

    fn mark(id: i64, transaction: i64) -> Option<Mark> {
        Some(Mark { id, transaction })
    }

    #[test]
    fn low_mark_waits_for_all_who_may_have_staged_below_it() {
        let (mut known, now) = (Known::nothing(), Instant::now());
        known.drained(100, None, mark(7, 110), now);
        assert_eq!(known.low(now), 0);
        known.drained(109, None, mark(9, 120), now);
        assert_eq!(known.low(now), 0, "transaction 109 may still be running");
        known.drained(110, None, mark(11, 130), now);
        assert_eq!(known.low(now), 7);
        known.drained(130, None, None, now);
        assert_eq!(known.low(now), 11);
        known.head = Some((5, None));
        known.unlearn_all(4);
        assert_eq!(known.low(now), 0, "another history may have drawn the same ids again");
    }

    #[test]
    fn low_mark_passes_without_those_that_stand_still_and_asks_for_them() {
        let (mut known, begun) = (Known::nothing(), Instant::now());
        known.drained(100, None, mark(7, 110), begun);
        assert_eq!(known.late(begun), None, "they may end soon");
        known.drained(100, Some(&[100, 105]), mark(8, 115), begun);
        assert_eq!(known.low(begun), 0, "nobody is late yet");

        let later = begun + LATE * 2;
        assert_eq!(known.late(later), Some(Vec::new()), "it is asked who runs");
        known.drained(100, Some(&[100, 105, 120]), mark(9, 125), later);
        assert_eq!((known.low(later), known.late(later)), (7, Some(vec![100, 105])));
        // One has ended: what it had staged was looked for from the beginning.
        known.drained(105, Some(&[105, 126]), mark(10, 127), later);
        assert_eq!((known.low(later), known.late(later)), (7, Some(vec![105])));

        let later = later + LATE * 2;
        known.drained(105, Some(&[105, 120, 128]), mark(11, 129), later);
        assert_eq!((known.low(later), known.late(later)), (9, Some(vec![105, 120])));
        known.drained(130, Some(&[]), mark(12, 130), later);
        assert_eq!((known.low(later), known.late(later)), (11, None), "all have ended");

        let crowd: Vec<i64> = (0..=LATE_MAX as i64).collect();
        let later = later + LATE * 2;
        known.drained(0, Some(&crowd), None, later);
        assert_eq!(known.low(later), 11, "too many are not kept account of");
        let swept = begun + SWEEP * 2;
        assert_eq!((known.low(swept), known.late(swept)), (0, Some(Vec::new())));
    }
}

//! What `es.append` answers, and what that says to each caller.

use std::time::Instant;

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    known::{Known, Mark},
    time::At,
};
use crate::{Append, Error, Position, Receipt, Result, Version, entry::Entry};

/// The columns that [`Answer`] takes, in its order.
pub(super) const COLUMNS: &str = "known, base, status, version, first_pos, refused, g_at, head, head_id, d_stream, d_version, \
    d_taken, d_failed, d_seq, d_xmin, d_xid, clock, d_running";

// The verdicts on appends and groups.
const STORED: i16 = 0;
const REPEATED: i16 = 1;
const CONFLICT: i16 = 2;
const ID_REUSED: i16 = 3;
pub(super) const CLOSED: i16 = 5;
const GUARDED: i16 = 6;
const FENCED: i16 = 7;

/// One row.
#[derive(Debug)]
pub(super) struct Answer {
    /// What the caller remembered held.
    known: bool,
    base: i64,
    /// None: all is stored.
    status: Option<Vec<i16>>,
    version: Vec<i64>,
    first: Option<Vec<i64>>,
    refused: Vec<Option<i16>>,
    guarded_at: Vec<Option<i64>>,
    pub(super) head: i64,
    head_id: Option<Uuid>,
    /// None: nobody looked for staged rows.
    pub(super) drained: Option<Drained>,
    /// The database's clock, during the call.
    pub(super) clock: Timestamp,
}

/// What a drain found.
#[derive(Debug)]
pub(super) struct Drained {
    /// New versions of streams.
    versions: Vec<(String, i64)>,
    /// Rows that were there, repeats among them.
    pub(super) taken: i32,
    /// Of those, the ones that were set aside.
    pub(super) failed: i32,
    /// All transactions before this one had ended when it looked.
    pub(super) oldest_running: i64,
    /// Those that ran, where that was asked.
    running: Option<Vec<i64>>,
    mark: Option<Mark>,
}

impl Answer {
    pub(super) fn of(row: &PgRow) -> sqlx::Result<Self> {
        let taken: Option<i32> = row.try_get(11)?;
        let drained = taken.map(|taken| Drained::of(row, taken)).transpose()?;
        Ok(Self {
            known: row.try_get(0)?,
            base: row.try_get(1)?,
            status: row.try_get(2)?,
            version: row.try_get::<Option<_>, _>(3)?.unwrap_or_default(),
            first: row.try_get(4)?,
            refused: row.try_get::<Option<_>, _>(5)?.unwrap_or_default(),
            guarded_at: row.try_get::<Option<_>, _>(6)?.unwrap_or_default(),
            head: row.try_get(7)?,
            head_id: row.try_get(8)?,
            drained,
            clock: row.try_get::<At, _>(16)?.0,
        })
    }

    /// Keeps what the next call can use.
    pub(super) fn remember(&self, entries: &[Entry], full: bool, known: &mut Known) {
        if !self.known {
            let sequenced = self.drained.as_ref().map_or(0, |drained| drained.versions.len() as i64);
            known.unlearn_all(self.base - sequenced);
        }
        known.head = Some((self.head, self.head_id));
        if let Some(drained) = &self.drained {
            for (stream, version) in &drained.versions {
                known.raise(stream, *version);
            }
            if !full {
                known.drained(
                    drained.oldest_running,
                    drained.running.as_deref(),
                    drained.mark,
                    Instant::now(),
                );
            }
        }
        let appends = entries.iter().flat_map(|entry| &entry.batch.appends);
        for (n, append) in appends.enumerate() {
            match self.status(n) {
                STORED => known.learn(&append.stream, self.version[n] + append.events.len() as i64),
                CONFLICT => known.learn(&append.stream, self.version[n]),
                REPEATED | ID_REUSED | CLOSED => known.unlearn(&append.stream),
                _ => (),
            }
        }
    }

    /// What each caller is told. `offsets` are the events before each append.
    pub(super) fn receipts(&self, entries: &[Entry], offsets: &[i32]) -> Vec<Result<Vec<Receipt>>> {
        let (mut append, mut guard) = (0, 0);
        let mut answers = Vec::with_capacity(entries.len());
        for (group, entry) in entries.iter().enumerate() {
            let (appends, guards) = (entry.batch.appends.len(), entry.batch.guards.len());
            answers.push(match self.refusal(entry, group, append, guard) {
                Some(error) => Err(error),
                None => Ok(entry
                    .batch
                    .appends
                    .iter()
                    .zip(append..)
                    .map(|(of, n)| self.receipt(of, n, offsets[n]))
                    .collect()),
            });
            append += appends;
            guard += guards;
        }
        answers
    }

    fn status(&self, append: usize) -> i16 {
        self.status.as_ref().map_or(STORED, |status| status[append])
    }
    fn receipt(&self, append: &Append, n: usize, offset: i32) -> Receipt {
        let events = append.events.len() as i64;
        let repeated = self.status(n) == REPEATED;
        let first = self
            .first
            .as_ref()
            .map_or(self.base + i64::from(offset) + 1, |first| first[n]);
        Receipt {
            first: Position(first),
            last: Position(first + events - 1),
            version: Version(self.version[n] + if repeated { 0 } else { events }),
            repeated,
        }
    }

    /// Why a group is not stored; the worst of its reasons. `append` and `guard` are its first ones.
    fn refusal(&self, entry: &Entry, group: usize, append: usize, guard: usize) -> Option<Error> {
        let batch = &entry.batch;
        let members = || batch.appends.iter().zip(append..);
        let verdict = self.refused.get(group).copied().flatten();
        if members().all(|(_, n)| matches!(self.status(n), STORED | REPEATED))
            && matches!(verdict, None | Some(REPEATED))
        {
            return None;
        }
        if let Some((reused, _)) = members().find(|(_, n)| self.status(*n) == ID_REUSED) {
            return Some(Error::IdReused(reused.events[0].id));
        }
        let stale = members().find_map(|(of, n)| match self.status(n) {
            CLOSED => Some(Error::Closed(of.stream.clone())),
            CONFLICT => Some(Error::Conflict {
                stream: of.stream.clone(),
                expected: of.expected,
                actual: Version(self.version[n]),
            }),
            _ => None,
        });
        stale
            .or_else(|| self.guarded(entry, guard))
            .or_else(|| self.fenced(entry, verdict))
    }
    fn guarded(&self, entry: &Entry, first: usize) -> Option<Error> {
        entry.batch.guards.iter().zip(first..).find_map(|(guard, n)| {
            let at = self.guarded_at.get(n).copied().flatten().map(Position)?;
            let stream = guard.stream.clone();
            (at > guard.after).then_some(Error::Guarded { stream, at })
        })
    }
    fn fenced(&self, entry: &Entry, verdict: Option<i16>) -> Option<Error> {
        debug_assert!(
            matches!(verdict, Some(GUARDED | FENCED)),
            "a verdict without a reason: {verdict:?}"
        );
        let lease = &entry.batch.tracking.as_ref()?.lease;
        Some(Error::Fenced {
            name: lease.name.clone(),
            shard: lease.shard,
        })
    }
}

impl Drained {
    fn of(row: &PgRow, taken: i32) -> sqlx::Result<Self> {
        let streams: Vec<String> = row.try_get::<Option<_>, _>(9)?.unwrap_or_default();
        let versions: Vec<i64> = row.try_get::<Option<_>, _>(10)?.unwrap_or_default();
        let (id, transaction): (Option<i64>, Option<i64>) = (row.try_get(13)?, row.try_get(15)?);
        let mark = id.zip(transaction).map(|(id, transaction)| Mark { id, transaction });
        Ok(Self {
            versions: streams.into_iter().zip(versions).collect(),
            taken,
            failed: row.try_get::<Option<_>, _>(12)?.unwrap_or_default(),
            oldest_running: row.try_get(14)?,
            running: row.try_get(17)?,
            mark,
        })
    }
}

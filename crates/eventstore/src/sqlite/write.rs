//! A flush: batches in one transaction, each stored whole or not at all.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{desk, failure};
use crate::{
    Append, Batch, Error, NewEvent, Position, Receipt, Recorded, Result, StreamId, Version, backend::micros,
    entry::Entry,
};

/// The stream's version, and whether it is closed.
pub(super) const STREAM: &str = "SELECT
    coalesce((SELECT version FROM es_event WHERE stream_id = ?1 ORDER BY version DESC LIMIT 1), 0),
    EXISTS (SELECT 1 FROM es_stream WHERE stream_id = ?1 AND state > 0)";
const HEAD: &str = "SELECT pos, recorded_at FROM es_event ORDER BY pos DESC LIMIT 1";
const INSERT: &str = "INSERT INTO es_event
    (pos, version, recorded_at, append_hash, event_id, corr, caus, schema_version, stream_id, type, topic, key, payload, meta)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
pub(super) const KNOWN: &str = "SELECT pos, version, stream_id, append_hash FROM es_event WHERE event_id = ?1";
const LAST: &str = "SELECT pos FROM es_event WHERE stream_id = ?1 ORDER BY version DESC LIMIT 1";

/// A transaction that took this long to begin waited for another process.
const CONTENDED: Duration = Duration::from_millis(1);

type Answers = Vec<Result<Stored>>;

/// What became of a batch.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// One for each append.
    pub(super) receipts: Vec<Receipt>,
    /// When its events were stored, in microseconds; of a repeat it says nothing.
    pub(super) at: i64,
}

impl Stored {
    /// The events of a batch as they are in the log now; none of those that were there before.
    pub(super) fn recorded(&self, batch: Batch) -> impl Iterator<Item = Recorded> {
        // It was read, and written to the database, as such a time.
        let at = Timestamp::from_microsecond(self.at).unwrap_or(Timestamp::MAX);
        let appends = batch.appends.into_iter().zip(&self.receipts);
        let new = appends.filter(|(_, receipt)| !receipt.repeated);
        new.flat_map(move |(append, receipt)| {
            let before = receipt.version.0 - append.events.len() as i64;
            let (first, stream) = (receipt.first.0, append.stream);
            append
                .events
                .into_iter()
                .zip(0..)
                .map(move |(event, n)| event.recorded(stream.clone(), Position(first + n), Version(before + 1 + n), at))
        })
    }
}

/// Stores batches. `contended` is set where another process had the file. What goes wrong with all of them at once is tried again with each half, until only the culprit fails.
pub(super) fn flush(connection: &mut Connection, entries: &[Entry], contended: &AtomicBool) -> Answers {
    let error = match attempt(connection, entries, contended) {
        Ok(answers) => return answers,
        Err(error) => error,
    };
    if entries.len() > 1 && matches!(error, Error::Database(_)) {
        tracing::warn!(%error, batches = entries.len(), "a flush failed; looking for the batch that is the cause");
        let (left, right) = entries.split_at(entries.len() / 2);
        let mut answers = flush(connection, left, contended);
        answers.extend(flush(connection, right, contended));
        return answers;
    }
    vec![Err(error); entries.len()]
}

fn attempt(connection: &mut Connection, entries: &[Entry], contended: &AtomicBool) -> Result<Answers> {
    let began = Instant::now();
    let tx = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failure::of)?;
    contended.store(began.elapsed() > CONTENDED, Ordering::Relaxed);
    let answers = write(&tx, entries).map_err(failure::of)?;
    fail::fail_point!("log.append.before");
    tx.commit().map_err(failure::of_committing)?;
    fail::fail_point!("log.append.after");
    Ok(answers)
}

/// Either error is one of the database; a batch that is refused is an answer.
fn write(tx: &Transaction<'_>, entries: &[Entry]) -> rusqlite::Result<Answers> {
    let mut flush = Flush::new(tx)?;
    entries.iter().map(|entry| flush.take(entry)).collect()
}

struct Flush<'tx> {
    tx: &'tx Connection,
    /// The last position, and the time of all that this flush stores.
    head: i64,
    at: i64,
    stream: CachedStatement<'tx>,
    insert: CachedStatement<'tx>,
}

/// Why a batch was not stored, before it is known whether it was stored earlier.
enum No {
    /// It may be a repeat; if not, this is the answer.
    Refused(Error),
    /// An event's id is in the log already.
    Duplicate,
    Failed(rusqlite::Error),
}
impl From<rusqlite::Error> for No {
    fn from(error: rusqlite::Error) -> Self {
        if failure::is_duplicate(&error) {
            Self::Duplicate
        } else {
            Self::Failed(error)
        }
    }
}

impl<'tx> Flush<'tx> {
    fn new(tx: &'tx Connection) -> rusqlite::Result<Self> {
        let last = tx
            .prepare_cached(HEAD)?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (head, at): (i64, i64) = last.unwrap_or((0, i64::MIN));
        let (stream, insert) = (tx.prepare_cached(STREAM)?, tx.prepare_cached(INSERT)?);
        Ok(Self {
            tx,
            head,
            at: at.max(micros()),
            stream,
            insert,
        })
    }

    /// Stores a batch, or finds that it is there. The common case asks for nothing that an index does not give at once;
    /// only what cannot be stored is looked up.
    fn take(&mut self, entry: &Entry) -> rusqlite::Result<Result<Stored>> {
        let events: usize = entry.batch.appends.iter().map(|append| append.events.len()).sum();
        // A single statement has no effect when it fails.
        let undoable = events + usize::from(entry.batch.tracking.is_some()) > 1;
        if undoable {
            self.tx.prepare_cached("SAVEPOINT batch")?.execute([])?;
        }
        let head = self.head;
        let no = match self.store(entry) {
            Ok(receipts) => {
                self.release(undoable)?;
                return Ok(Ok(Stored { receipts, at: self.at }));
            }
            Err(no) => no,
        };
        self.head = head;
        if undoable {
            self.tx.prepare_cached("ROLLBACK TO batch")?.execute([])?;
            self.release(true)?;
        }
        match no {
            No::Failed(error) => Err(error),
            No::Refused(error) => Ok(self.repeat(entry)?.unwrap_or(Err(error))),
            No::Duplicate => Ok(self.repeat(entry)?.unwrap_or_else(|| Err(broken()))),
        }
    }

    fn release(&self, savepoint: bool) -> rusqlite::Result<()> {
        if savepoint {
            self.tx.prepare_cached("RELEASE batch")?.execute([])?;
        }
        Ok(())
    }

    fn store(&mut self, entry: &Entry) -> Result<Vec<Receipt>, No> {
        let versions = entry
            .batch
            .appends
            .iter()
            .map(|append| self.expect(append))
            .collect::<Result<Vec<_>, No>>()?;
        self.judge(&entry.batch)?;
        let appends = entry.batch.appends.iter().zip(versions).zip(&entry.hashes);
        appends
            .map(|((append, version), hash)| self.insert(append, version, *hash))
            .collect()
    }

    fn expect(&mut self, append: &Append) -> Result<i64, No> {
        let stream = append.stream.as_str();
        let (version, closed) = self
            .stream
            .query_row([stream], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)))?;
        if closed {
            return Err(No::Refused(Error::Closed(append.stream.clone())));
        }
        let actual = Version(version);
        if !append.expected.allows(actual) {
            let (stream, expected) = (append.stream.clone(), append.expected);
            return Err(No::Refused(Error::Conflict {
                stream,
                expected,
                actual,
            }));
        }
        Ok(version)
    }

    fn judge(&self, batch: &Batch) -> Result<(), No> {
        for guard in &batch.guards {
            let stream = guard.stream.as_str();
            let last = self
                .tx
                .prepare_cached(LAST)?
                .query_row([stream], |row| row.get(0))
                .optional()?;
            if let Some(at) = last.map(Position).filter(|at| *at > guard.after) {
                return Err(No::Refused(Error::Guarded {
                    stream: guard.stream.clone(),
                    at,
                }));
            }
        }
        let Some(tracking) = &batch.tracking else { return Ok(()) };
        let lease = &tracking.lease;
        if !desk::move_to(self.tx, lease, tracking.to)? {
            return Err(No::Refused(Error::Fenced {
                name: lease.name.clone(),
                shard: lease.shard,
            }));
        }
        Ok(())
    }

    fn insert(&mut self, append: &Append, version: i64, hash: i64) -> Result<Receipt, No> {
        let first = self.head + 1;
        for (n, event) in append.events.iter().enumerate() {
            self.head += 1;
            let version = version + 1 + n as i64;
            let hash = (n == 0).then_some(hash);
            let NewEvent {
                id,
                name,
                schema,
                topic,
                key,
                correlation,
                causation,
                payload,
                ..
            } = event;
            self.insert.execute(params![
                self.head,
                version,
                self.at,
                hash,
                &id.as_bytes()[..],
                correlation.as_ref().map(|id| &id.as_bytes()[..]),
                causation.as_ref().map(|id| &id.as_bytes()[..]),
                schema,
                append.stream.as_str(),
                name,
                topic.as_ref().map(AsRef::<str>::as_ref),
                key,
                &payload[..],
                event.meta(),
            ])?;
        }
        let version = Version(version + append.events.len() as i64);
        Ok(Receipt {
            first: Position(first),
            last: Position(self.head),
            version,
            repeated: false,
        })
    }

    /// The first receipts, where the whole batch was stored before; an error where some of its ids were, in another way;
    /// none where none of them was.
    fn repeat(&self, entry: &Entry) -> rusqlite::Result<Option<Result<Stored>>> {
        let appends = &entry.batch.appends;
        let mut receipts = Vec::with_capacity(appends.len());
        for (append, hash) in appends.iter().zip(&entry.hashes) {
            receipts.extend(first_receipt(self.tx, append, *hash)?);
        }
        if receipts.len() == appends.len() && !appends.is_empty() {
            return Ok(Some(Ok(Stored { receipts, at: self.at })));
        }
        for event in appends.iter().flat_map(|append| &append.events) {
            if self.tx.prepare_cached(KNOWN)?.exists([&event.id.as_bytes()[..]])? {
                return Ok(Some(Err(Error::IdReused(event.id))));
            }
        }
        Ok(None)
    }
}

/// The receipt of the same append, stored earlier.
fn first_receipt(tx: &Connection, append: &Append, hash: i64) -> rusqlite::Result<Option<Receipt>> {
    let events = append.events.len() as i64;
    let id = &append.events[0].id;
    let mut known = tx.prepare_cached(KNOWN)?;
    let found = known.query_row([&id.as_bytes()[..]], |row| {
        let (first, version): (i64, i64) = (row.get(0)?, row.get(1)?);
        let same =
            StreamId::from(row.get::<_, String>(2)?) == append.stream && row.get::<_, Option<i64>>(3)? == Some(hash);
        let (last, version) = (Position(first + events - 1), Version(version + events - 1));
        Ok(same.then_some(Receipt {
            first: Position(first),
            last,
            version,
            repeated: true,
        }))
    });
    Ok(found.optional()?.flatten())
}

/// A unique index said no, and it was not that of the ids: versions are not dense.
fn broken() -> Error {
    Error::Unusable {
        what: "a stream's version is taken, though it is the next one: the log is damaged".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use rusqlite::Connection;

    use super::flush;
    use crate::{Append, Error, Expected, NewEvent, entry::Entry, sqlite::schema};

    fn log() -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        connection
    }

    fn entry(stream: usize, name: &str, bytes: usize) -> Entry {
        let events = vec![NewEvent::new(name, vec![0; bytes])];
        Entry::new(
            Append {
                stream: format!("s-{stream}").into(),
                expected: Expected::Any,
                events,
            }
            .into(),
        )
        .unwrap()
    }

    fn head(log: &Connection) -> i64 {
        log.query_row("SELECT coalesce(max(pos), 0) FROM es_event", [], |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn what_the_database_refuses_is_found_among_its_neighbours() {
        let mut log = log();
        let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON es_event WHEN NEW.type = 'poison'
            BEGIN SELECT RAISE(ABORT, 'no poison'); END;";
        log.execute_batch(refuse).unwrap();
        let name = |n: usize| if n == 13 || n == 40 { "poison" } else { "good" };
        let entries: Vec<_> = (0..64).map(|n| entry(n, name(n), 10)).collect();
        let answers = flush(&mut log, &entries, &AtomicBool::new(false));
        for (n, answer) in answers.iter().enumerate() {
            match answer {
                Ok(stored) => assert!(name(n) == "good" && stored.receipts.len() == 1),
                Err(error) => assert!(
                    name(n) == "poison" && matches!(error, Error::Database(_)),
                    "{n}: {error:?}"
                ),
            }
        }
        assert_eq!(head(&log), 62);
    }

    #[test]
    fn nothing_is_stored_on_a_full_disk() {
        let mut log = log();
        let pages: i64 = log.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        log.pragma_update(None, "max_page_count", pages + 20).unwrap();
        let (small, big) = (entry(1, "small", 10), entry(2, "big", 1 << 19));
        let both = flush(&mut log, &[small.clone(), big], &AtomicBool::new(false));
        assert!(
            both.iter()
                .all(|answer| matches!(answer, Err(Error::Unavailable { .. }))),
            "{both:?}"
        );
        assert_eq!(head(&log), 0);
        assert!(flush(&mut log, &[small], &AtomicBool::new(false))[0].is_ok());
    }
}

//! What a shard's owner has in mind: which sagas wait for this process, and until when.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sagamill_eventstore::{Position, Progress};

/// A saga that waits for nothing sooner than this has its timer written down, so that the checkpoint may pass it.
pub(crate) const FAR: Duration = Duration::from_mins(1);
/// Most sagas move on before this; only those that do not are worth a write.
const SETTLED: Duration = Duration::from_secs(5);

/// The sagas of this process's shards that want something.
#[derive(Default)]
pub(crate) struct Watches {
    sagas: HashMap<Arc<str>, Watch>,
    due: BTreeSet<(Timestamp, Arc<str>)>,
    /// Those that hold the checkpoint back with nothing near, by when that began.
    far: BTreeSet<(Timestamp, Arc<str>)>,
    /// Timers to be written down or taken away.
    rows: BTreeMap<Arc<str>, Row>,
}

/// One saga.
struct Watch {
    shard: u16,
    /// Its last event that was handed out and is not done: a restart begins there.
    held: Option<Position>,
    /// When a task is to look at it; none: one is looking, or will be told.
    due: Option<Timestamp>,
    far_since: Option<Timestamp>,
    /// Its timer is written down.
    is_written: bool,
    version: i64,
}

/// A change of a timer that is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) shard: u16,
    /// None: it is taken away.
    pub(crate) due: Option<Timestamp>,
    /// What is done once this is written.
    pub(crate) held: Option<Position>,
}

/// What a saga waits for in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    Nothing,
    /// A look at that time. Where it is far off and nothing runs, since when that is so.
    Look {
        at: Timestamp,
        far_since: Option<Timestamp>,
    },
    /// The end of a local step that runs now.
    Outcome,
}

impl Watches {
    /// An event was handed out: from here on it is what a restart begins at. The one before is done.
    pub(crate) fn hold(&mut self, progress: &Progress, stream: &Arc<str>, shard: u16, at: Position, version: i64) {
        let watch = self.sagas.entry(stream.clone()).or_insert_with(|| Watch::new(shard));
        watch.version = watch.version.max(version);
        if let Some(before) = watch.held.replace(at) {
            progress.done(shard, before);
        }
    }
    pub(crate) fn is_watched(&self, stream: &str) -> bool {
        self.sagas.contains_key(stream)
    }
    /// A timer that was written down is near.
    pub(crate) fn read(&mut self, stream: &Arc<str>, shard: u16, due: Timestamp) {
        let watch = self.sagas.entry(stream.clone()).or_insert_with(|| Watch::new(shard));
        watch.is_written = true;
        // A saga that is being watched knows better than the row when it is due.
        if watch.held.is_none() && watch.due.is_none() {
            watch.due = Some(due);
            self.due.insert((due, stream.clone()));
        }
    }
    /// What the saga wants, as of one of its versions; an older one than is known says nothing new. None: it could not be
    /// learnt.
    pub(crate) fn set(
        &mut self,
        progress: &Progress,
        stream: &Arc<str>,
        shard: u16,
        version: Option<i64>,
        wants: Wants,
    ) {
        if !self.sagas.contains_key(stream) && wants == Wants::Nothing {
            return;
        }
        let watch = self.sagas.entry(stream.clone()).or_insert_with(|| Watch::new(shard));
        if version.is_some_and(|version| version < watch.version) {
            return;
        }
        watch.version = version.unwrap_or(watch.version);
        if let Some(due) = watch.due.take() {
            self.due.remove(&(due, stream.clone()));
        }
        let far_since = watch.far_since.take();
        if let Some(since) = far_since {
            self.far.remove(&(since, stream.clone()));
        }
        match wants {
            Wants::Nothing => self.release(progress, stream),
            Wants::Outcome => {}
            Wants::Look { at, far_since: since } => {
                watch.due = Some(at);
                self.due.insert((at, stream.clone()));
                if let Some(since) = since {
                    let since = far_since.unwrap_or(since);
                    watch.far_since = Some(since);
                    self.far.insert((since, stream.clone()));
                }
            }
        }
    }
    fn release(&mut self, progress: &Progress, stream: &Arc<str>) {
        let Some(watch) = self.sagas.remove(stream) else { return };
        if watch.is_written {
            self.put_row(
                progress,
                stream,
                Row {
                    shard: watch.shard,
                    due: None,
                    held: watch.held,
                },
            );
        } else if let Some(held) = watch.held {
            progress.done(watch.shard, held);
        }
    }
    /// The newer row of a saga goes before the older one, and what either held stays held until it is written.
    fn put_row(&mut self, progress: &Progress, stream: &Arc<str>, mut row: Row) {
        if let Some(before) = self.rows.get(stream).and_then(|before| before.held) {
            match row.held {
                Some(_) => progress.done(row.shard, before),
                None => row.held = Some(before),
            }
        }
        self.rows.insert(stream.clone(), row);
    }

    /// The sagas that are due now. Each is to be looked at, after which it says again what it wants.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Vec<(Arc<str>, i64)> {
        let mut all = Vec::new();
        while let Some((due, stream)) = self.due.pop_first() {
            if due > now {
                self.due.insert((due, stream));
                break;
            }
            if let Some(watch) = self.sagas.get_mut(&stream) {
                watch.due = None;
                if let Some(since) = watch.far_since.take() {
                    self.far.remove(&(since, stream.clone()));
                }
                all.push((stream, watch.version));
            }
        }
        all
    }
    /// The timers that are to be written now, and forgets those sagas; [`keep`](Self::keep) where that fails.
    pub(crate) fn take_rows(&mut self, progress: &Progress, now: Timestamp) -> BTreeMap<Arc<str>, Row> {
        while let Some((since, stream)) = self.far.pop_first() {
            if later(since, SETTLED) > now {
                self.far.insert((since, stream));
                break;
            }
            let Some(watch) = self.sagas.remove(&stream) else {
                continue;
            };
            let Some(due) = watch.due else { continue };
            self.due.remove(&(due, stream.clone()));
            self.put_row(
                progress,
                &stream,
                Row {
                    shard: watch.shard,
                    due: Some(due),
                    held: watch.held,
                },
            );
        }
        std::mem::take(&mut self.rows)
    }
    /// These could not be written: later again, unless there are newer ones.
    pub(crate) fn keep(&mut self, progress: &Progress, rows: BTreeMap<Arc<str>, Row>) {
        for (stream, row) in rows {
            let newer = self.rows.insert(stream.clone(), row);
            if let Some(newer) = newer {
                self.put_row(progress, &stream, newer);
            }
        }
    }
    /// When to look next: at what is due, or at timers to be written.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let due = self.due.first().map(|(due, _)| *due);
        let far = self.far.first().map(|(since, _)| later(*since, SETTLED));
        let rows = (!self.rows.is_empty()).then_some(Timestamp::MIN);
        [due, far, rows].into_iter().flatten().min()
    }
    /// Forgets all of a shard.
    pub(crate) fn drop_shard(&mut self, shard: u16) {
        let gone: BTreeSet<Arc<str>> = self
            .sagas
            .iter()
            .filter(|(_, watch)| watch.shard == shard)
            .map(|(stream, _)| stream.clone())
            .collect();
        self.sagas.retain(|stream, _| !gone.contains(stream));
        self.due.retain(|(_, stream)| !gone.contains(stream));
        self.far.retain(|(_, stream)| !gone.contains(stream));
        self.rows.retain(|_, row| row.shard != shard);
    }
}

impl Watch {
    fn new(shard: u16) -> Self {
        Self {
            shard,
            held: None,
            due: None,
            far_since: None,
            is_written: false,
            version: 0,
        }
    }
}

/// A time so much later.
pub(crate) fn later(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| time.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

//! Parks the sagas that no live process knows how to go on with, so that they are seen. One of a log's coordinators does it.
//!
//! It keeps a row for each shape of a definition by which sagas were started: where the first of those stands that may not
//! have ended, and, while nobody knows the shape, when they are to be parked. Rows are timers of its subscription, so that
//! the next janitor goes on with the same times. Whoever knows a shape again lets its sagas go on himself.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use sagamill_eventstore::{
    Append, Batch, Error as LogError, Expected, Feed, Position, Progress, Recorded, Signal, StreamId, Timer, Version,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::host::{Host, unloadable};
use super::members::Needs;
use super::watch::later;
use crate::core::{Orphan, SagaEvent, digest_of};
use crate::{Result, chain, metric_definitions as metric, wire};

/// The name of the subscription.
const SUBSCRIPTION: &str = "saga-janitor";
/// It has one shard.
const SHARD: u16 = 0;
/// The first event of each saga.
const STARTED: &str = "saga.started";
/// The year 9900: a row whose sagas are not to be parked.
const NEVER: Timestamp = Timestamp::constant(250_250_000_000, 0);
/// How often a saga that moves under the janitor's hands is looked at again, before it is left to the next round.
const TRIES_MAX: u32 = 8;
/// The pause before the rows are read again that could not be.
const PAUSE: Duration = Duration::from_millis(500);

/// Opens the subscription to what is started.
pub(crate) async fn open(host: &Host, lease: Duration) -> Result<Feed> {
    let subscription = host
        .store
        .subscribe(SUBSCRIPTION)
        .category(wire::CATEGORY)
        .types([STARTED]);
    // Nobody waits for it, so it does not read after each append.
    Ok(subscription.at_most_every(lease / 3).lease(lease).open().await?)
}

/// Looks after the sagas whenever this process is the one that does, until `stop`.
pub(crate) async fn keep(
    host: &Host,
    feed: &mut Feed,
    lease: Duration,
    grace: Duration,
    stop: &CancellationToken,
) -> Result<()> {
    let work = async {
        let mut janitor = Janitor {
            host,
            progress: feed.progress(),
            grace,
            rows: BTreeMap::new(),
            unwritten: Vec::new(),
            held: Vec::new(),
        };
        // Who has just come does not know yet who else has.
        let mut begins = Instant::now();
        let mut look_at = Instant::now() + lease / 3;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(look_at) => {
                    janitor.look(begins <= Instant::now()).await;
                    look_at = Instant::now() + lease / 3;
                }
                signal = feed.next() => match signal? {
                    Signal::Gained { .. } => {
                        begins = Instant::now() + lease;
                        janitor.read_rows().await;
                    }
                    Signal::Event { event, .. } => janitor.take(&event),
                    _ => {}
                },
            }
        }
    };
    stop.run_until_cancelled(work).await.unwrap_or(Ok(()))
}

/// A definition's shape, as sagas pin it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    definition: String,
    version: u32,
    digest: u64,
}

/// What is known of one shape's sagas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    /// The first of them that may not have ended.
    from: i64,
    /// Nobody knew the shape for long enough, and all of them have been seen to.
    is_done: bool,
    /// When they are to be parked, for nobody knows the shape; none: somebody does, or it is done.
    #[serde(skip)]
    due: Option<Timestamp>,
}

struct Janitor<'a> {
    host: &'a Host,
    progress: Progress,
    grace: Duration,
    rows: BTreeMap<Shape, Row>,
    /// Whose rows have changed and are not written: each once.
    unwritten: Vec<Shape>,
    /// The events that changed them; no more than the subscription hands out.
    held: Vec<Position>,
}

impl Janitor<'_> {
    /// Goes on where the last janitor was, once the rows can be read.
    async fn read_rows(&mut self) {
        (self.unwritten, self.held) = (Vec::new(), Vec::new());
        let timers = loop {
            match self.progress.timers(SHARD, Timestamp::MAX).await {
                Ok(timers) => break timers,
                Err(error) => {
                    tracing::warn!(%error, "it cannot be read which definitions are in use; trying again");
                    sleep(PAUSE).await;
                }
            }
        };
        self.rows = timers.iter().filter_map(read_row).collect();
    }
    /// Notes by which shape a saga was started.
    fn take(&mut self, started: &Recorded) {
        let Some(shape) = Shape::of(started) else {
            return self.progress.done(SHARD, started.position);
        };
        let row = self.rows.get(&shape).copied();
        let from = started.position.0;
        match row {
            Some(row) if !row.is_done && row.from <= from => return self.progress.done(SHARD, started.position),
            // It comes before what was known where the log lost its tail.
            Some(row) => self.set(
                shape,
                Row {
                    from: row.from.min(from),
                    is_done: false,
                    ..row
                },
            ),
            None => self.set(
                shape,
                Row {
                    from,
                    is_done: false,
                    due: None,
                },
            ),
        }
        self.held.push(started.position);
    }
    fn set(&mut self, shape: Shape, row: Row) {
        if self.rows.insert(shape.clone(), row) != Some(row) && !self.unwritten.contains(&shape) {
            self.unwritten.push(shape);
        }
    }

    /// Looks who knows what, and parks what is due.
    async fn look(&mut self, may_park: bool) {
        if !self.progress.holds(SHARD) {
            return;
        }
        let now = self.host.store.now();
        let latest = later(now, self.grace);
        for (shape, row) in self.rows.clone() {
            let is_known = self.host.members.know(&Needs::Digest(shape.digest));
            let row = match row {
                Row { is_done: true, .. } if !is_known => continue,
                row if is_known => Row {
                    is_done: false,
                    due: None,
                    ..row
                },
                Row { due: None, .. } => {
                    tracing::warn!(%shape, grace = ?self.grace, "no live process knows a definition that sagas were started by");
                    Row {
                        due: Some(latest),
                        ..row
                    }
                }
                // Written before the clock was set back.
                Row { due: Some(due), .. } if due > latest => Row {
                    due: Some(latest),
                    ..row
                },
                Row { due: Some(due), .. } if due <= now && may_park => match self.park_all(&shape, row).await {
                    Ok(row) => row,
                    Err(error) => {
                        tracing::warn!(%shape, error = chain(&error), "sagas that nobody knows could not be parked; trying again");
                        row
                    }
                },
                row => row,
            };
            self.set(shape, row);
        }
        self.write().await;
    }

    async fn write(&mut self) {
        if self.unwritten.is_empty() {
            return;
        }
        let timers: Vec<Timer> = self
            .unwritten
            .iter()
            .map(|shape| write_row(shape, &self.rows[shape]))
            .collect();
        match self.progress.schedule(SHARD, &timers).await {
            Ok(()) => {
                self.unwritten.clear();
                self.held.drain(..).for_each(|held| self.progress.done(SHARD, held));
            }
            // Another process has it, and reads from the checkpoint.
            Err(LogError::Fenced { .. }) => {}
            Err(error) => tracing::warn!(%error, "it cannot be written which definitions are in use; trying again"),
        }
    }

    /// Parks all sagas of a shape that have not ended.
    async fn park_all(&self, shape: &Shape, row: Row) -> Result<Row> {
        let head = self.host.store.head().await?.position;
        let mut started = self.host.store.read_all().from(Position(row.from)).to(head);
        started = started.category(wire::CATEGORY).types([STARTED]);
        let (mut first, mut parked) = (None, 0_u64);
        while let Some(event) = started.next().await {
            let event = event?;
            if Shape::of(&event).as_ref() != Some(shape) {
                continue;
            }
            if self.host.members.know(&Needs::Digest(shape.digest)) {
                return Ok(row);
            }
            let left = self.park(&event.stream, shape).await?;
            if left != Left::Ended {
                first.get_or_insert(event.position.0);
            }
            parked += u64::from(left == Left::Parked);
        }
        tracing::warn!(%shape, sagas = parked, "sagas that no live process knows are parked until one does");
        Ok(Row {
            from: first.unwrap_or(head.0 + 1),
            is_done: true,
            due: None,
        })
    }

    /// Parks one saga, unless it has ended or is parked already.
    async fn park(&self, stream: &StreamId, shape: &Shape) -> Result<Left> {
        let grace = self.grace;
        for _ in 0..TRIES_MAX {
            let Some(orphan) = self.read(stream, shape.digest).await? else {
                return Ok(Left::Alone);
            };
            if !orphan.is_running() {
                return Ok(if orphan.is_ended() { Left::Ended } else { Left::Alone });
            }
            let text = format!("no live process has known {shape} for {grace:?}");
            let event = orphan.park(self.host.store.now(), text, &self.host.process);
            let append = Append {
                stream: stream.clone(),
                expected: Expected::Exact(Version(orphan.version())),
                events: vec![event],
            };
            fail::fail_point!("saga.append.before");
            match self.host.store.commit(Batch::from(append)).await {
                Ok(_) => {
                    fail::fail_point!("saga.append.after");
                    metric::parked(&shape.definition);
                    self.host.waiters.wake(stream.as_str());
                    return Ok(Left::Parked);
                }
                // Somebody was faster, perhaps this very append.
                Err(LogError::Conflict { .. } | LogError::IdReused(_) | LogError::Unknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Left::Alone)
    }
    /// None: it cannot be read here.
    async fn read(&self, stream: &StreamId, digest: u64) -> Result<Option<Orphan>> {
        let (mut read, mut orphan) = (self.host.store.read(stream.clone()), None);
        while let Some(event) = read.next().await {
            match SagaEvent::decode(&event?) {
                Ok(entry) => orphan = Some(Orphan::fold(orphan, &entry, digest)),
                Err(error) => {
                    metric::broken(stream.as_str(), &chain(&unloadable(stream.as_str(), error.into())));
                    return Ok(None);
                }
            }
        }
        Ok(orphan)
    }
}

/// What became of a saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It had ended.
    Ended,
    /// It is parked by this janitor.
    Parked,
    /// It was parked before, or cannot be parked.
    Alone,
}

impl Shape {
    /// None: the event does not say.
    fn of(started: &Recorded) -> Option<Self> {
        let headers = &started.headers;
        Some(Self {
            definition: headers.get(wire::DEFINITION)?.to_owned(),
            version: headers.get(wire::DEFINITION_VERSION)?.parse().ok()?,
            digest: digest_of(headers)?,
        })
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            definition,
            version,
            digest,
        } = self;
        write!(f, "`{definition}` version {version} (digest {digest:016x})")
    }
}

fn write_row(shape: &Shape, row: &Row) -> Timer {
    let Shape {
        definition,
        version,
        digest,
    } = shape;
    Timer {
        id: format!("{definition}/{version}/{digest:016x}"),
        due: row.due.unwrap_or(NEVER),
        payload: serde_json::to_vec(row).expect("invariant: numbers can be written as JSON"),
    }
}

fn read_row(timer: &Timer) -> Option<(Shape, Row)> {
    let mut id = timer.id.split('/');
    let shape = Shape {
        definition: id.next()?.to_owned(),
        version: id.next()?.parse().ok()?,
        digest: u64::from_str_radix(id.next()?, 16).ok()?,
    };
    let row = serde_json::from_slice(&timer.payload).ok()?;
    let due = Some(timer.due).filter(|due| *due < NEVER);
    Some((shape, Row { due, ..row }))
}

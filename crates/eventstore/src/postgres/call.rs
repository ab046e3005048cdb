//! A flush as arguments of `es.append`, which stand explained above it.

use std::{sync::LazyLock, time::Instant};

use sqlx::{PgConnection, postgres::PgRow};
use uuid::Uuid;

use super::known::Known;
use crate::{Expected, NewEvent, entry::Entry};

/// Expectations, as the function has them.
pub(super) const ANY: i64 = -1;
pub(super) const EXISTS: i64 = -2;

/// The plain flush; with the drain; with everything. Three texts, so that three statements stay prepared.
static SQL: LazyLock<[String; 3]> = LazyLock::new(|| [12, 15, 34].map(sql));

fn sql(arguments: usize) -> String {
    let arguments: Vec<_> = (1..=arguments).map(|n| format!("${n}")).collect();
    format!(
        "SELECT {} FROM es.append({})",
        super::answer::COLUMNS,
        arguments.join(",")
    )
}

/// How the log is asked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manner {
    /// Most staged rows that are sequenced first; 0: none are looked for.
    pub(super) drain: i32,
    /// Look whether the events are there already.
    pub(super) check: bool,
}

/// Groups of appends, as columns.
#[derive(Debug, Default)]
pub(super) struct Call<'e> {
    appends: Appends<'e>,
    events: Events<'e>,
    guards: Guards<'e>,
    fences: Vec<Fence<'e>>,
    /// Each entry is one append.
    is_plain: bool,
}

#[derive(Debug, Default)]
struct Appends<'e> {
    stream: Vec<&'e str>,
    expected: Vec<i64>,
    /// None: some stream's version is neither known nor said.
    start: Option<Vec<i64>>,
    off: Vec<i32>,
    hash: Vec<i64>,
    group: Vec<i32>,
    /// Those whose start is what the caller expects, which nobody has looked at.
    assumed: Vec<i32>,
}

#[derive(Debug, Default)]
struct Events<'e> {
    append: Vec<i32>,
    all: Vec<&'e NewEvent>,
}

#[derive(Debug, Default)]
struct Guards<'e> {
    group: Vec<i32>,
    stream: Vec<&'e str>,
    after: Vec<i64>,
}

#[derive(Debug)]
struct Fence<'e> {
    group: i32,
    name: &'e str,
    shard: i32,
    owner: Uuid,
    fence: i64,
    position: i64,
    event: Option<Uuid>,
}

impl<'e> Call<'e> {
    pub(super) fn new(entries: &'e [Entry], known: &Known) -> Self {
        let mut call = Self {
            is_plain: entries.iter().all(|entry| entry.batch.appends.len() == 1),
            ..Self::default()
        };
        call.appends.start = Some(Vec::with_capacity(entries.len()));
        for (entry, group) in entries.iter().zip(1..) {
            for (append, hash) in entry.batch.appends.iter().zip(&entry.hashes) {
                let number = call.appends.stream.len() as i32 + 1;
                let expected = expected(append.expected);
                call.start(known.version(&append.stream), expected, number);
                call.appends.stream.push(append.stream.as_str());
                call.appends.expected.push(expected);
                call.appends.off.push(call.events.all.len() as i32);
                call.appends.hash.push(*hash);
                call.appends.group.push(group);
                call.events.append.extend(append.events.iter().map(|_| number));
                call.events.all.extend(&append.events);
            }
            for guard in &entry.batch.guards {
                call.guards.group.push(group);
                call.guards.stream.push(guard.stream.as_str());
                call.guards.after.push(guard.after.0);
            }
            call.fences.extend(entry.batch.tracking.as_ref().map(|tracking| Fence {
                group,
                name: &tracking.lease.name,
                shard: tracking.lease.shard.into(),
                owner: tracking.lease.owner,
                fence: tracking.lease.fence,
                position: tracking.to.position.0,
                event: tracking.to.event,
            }));
        }
        // In one order everywhere, so that nobody waits for a row in a circle.
        call.fences.sort_by_key(|fence| (fence.name, fence.shard));
        call
    }

    /// What an append starts after, where that is known, or may be assumed.
    fn start(&mut self, known: Option<i64>, expected: i64, number: i32) {
        let Some(starts) = &mut self.appends.start else { return };
        match known {
            Some(version) if expected == version || expected == ANY || (expected == EXISTS && version > 0) => {
                starts.push(version);
            }
            None if expected >= 0 => {
                starts.push(expected);
                self.appends.assumed.push(number);
            }
            _ => self.appends.start = None,
        }
    }

    /// Events before each append, and of each guard its group: what the answer is read by.
    pub(super) fn offsets(&self) -> &[i32] {
        &self.appends.off
    }

    /// One round trip, one commit.
    pub(super) async fn run(
        &self,
        connection: &mut PgConnection,
        known: &mut Known,
        manner: Manner,
    ) -> sqlx::Result<PgRow> {
        let (appends, events) = (&self.appends, &self.events);
        let is_rich = manner.check || !self.is_plain || !self.guards.group.is_empty() || !self.fences.is_empty();
        let is_rich = is_rich || events.all.iter().any(|event| is_rich_event(event));
        let shape = if is_rich { 2 } else { usize::from(manner.drain > 0) };
        let (head, head_id) = known.head.unzip();
        let none = appends.stream.is_empty();
        let mut query = sqlx::query(SQL[shape].as_str())
            .bind(head)
            .bind(head_id.flatten())
            .bind(some(!none, &appends.stream))
            .bind(some(!none, &appends.expected))
            .bind(appends.start.as_ref().filter(|_| !none))
            .bind(some(!none, &appends.off))
            .bind(some(!none, &appends.hash))
            .bind(some(
                !appends.assumed.is_empty() && appends.start.is_some(),
                &appends.assumed,
            ))
            .bind(some(!none, &events.append))
            .bind((!none).then(|| column(events, |event| event.id)))
            .bind((!none).then(|| column(events, |event| event.name.as_str())))
            .bind((!none).then(|| column(events, |event| &event.payload[..])));
        if shape > 0 {
            let now = Instant::now();
            query = query.bind(manner.drain).bind(known.low(now)).bind(known.late(now));
        }
        if shape > 1 {
            let any = |has: fn(&NewEvent) -> bool| events.all.iter().any(|event| has(event));
            let (guards, guarded) = (&self.guards, !self.guards.group.is_empty());
            let fences =
                |of: fn(&Fence<'e>) -> i64| self.fenced().then(|| self.fences.iter().map(of).collect::<Vec<_>>());
            query = query
                .bind(manner.check)
                .bind(some(!self.is_plain, &appends.group))
                .bind(any(|event| event.schema != 1).then(|| column(events, |event| event.schema.cast_signed())))
                .bind(None::<Vec<i16>>)
                .bind(any(|event| event.correlation.is_some()).then(|| column(events, |event| event.correlation)))
                .bind(any(|event| event.causation.is_some()).then(|| column(events, |event| event.causation)))
                .bind(any(|event| event.topic.is_some()).then(|| column(events, topic)))
                .bind(any(|event| event.key.is_some()).then(|| column(events, |event| event.key.as_deref())))
                .bind(any(|event| !event.headers.is_empty()).then(|| column(events, NewEvent::meta)))
                .bind(some(guarded, &guards.group))
                .bind(some(guarded, &guards.stream))
                .bind(some(guarded, &guards.after))
                .bind(
                    self.fenced()
                        .then(|| self.fences.iter().map(|fence| fence.group).collect::<Vec<_>>()),
                )
                .bind(
                    self.fenced()
                        .then(|| self.fences.iter().map(|fence| fence.name).collect::<Vec<_>>()),
                )
                .bind(
                    self.fenced()
                        .then(|| self.fences.iter().map(|fence| fence.shard).collect::<Vec<_>>()),
                )
                .bind(
                    self.fenced()
                        .then(|| self.fences.iter().map(|fence| fence.owner).collect::<Vec<_>>()),
                )
                .bind(fences(|fence| fence.fence))
                .bind(fences(|fence| fence.position))
                .bind(
                    self.fenced()
                        .then(|| self.fences.iter().map(|fence| fence.event).collect::<Vec<_>>()),
                );
        }
        query.fetch_one(connection).await
    }

    fn fenced(&self) -> bool {
        !self.fences.is_empty()
    }
}

/// An expectation as the function has it. A version below 0 is none that a stream ever has.
pub(super) fn expected(expected: Expected) -> i64 {
    match expected {
        Expected::Any => ANY,
        Expected::Exists => EXISTS,
        Expected::NoStream => 0,
        Expected::Exact(version) if version.0 < 0 => i64::MAX,
        Expected::Exact(version) => version.0,
    }
}

/// Whether an event has what only the longest statement can say.
fn is_rich_event(event: &NewEvent) -> bool {
    event.schema != 1
        || event.topic.is_some()
        || event.key.is_some()
        || event.correlation.is_some()
        || event.causation.is_some()
        || !event.headers.is_empty()
}

pub(super) fn topic(event: &NewEvent) -> Option<&str> {
    event.topic.as_ref().map(AsRef::as_ref)
}

fn column<'e, T>(events: &Events<'e>, of: impl Fn(&'e NewEvent) -> T) -> Vec<T> {
    events.all.iter().map(|event| of(event)).collect()
}

fn some<T>(yes: bool, value: T) -> Option<T> {
    yes.then_some(value)
}

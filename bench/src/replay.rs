//! Replays of a whole log, as bytes and decoded.

use std::{hint::black_box, path::Path};

use anyhow::{Context as _, ensure};
use rusqlite::{Connection, Row, types::ValueRef};
use sagamill::{
    bus::codec,
    eventstore::{Append, EventStore, Expected, NewEvent, Recorded},
};

use crate::{
    case::{Setting, database},
    load::passes,
    measure::{Pair, side_by_side},
    order::{OrderEvent, new_event},
    raw,
};

const PAGE: usize = 5_000;

/// All columns that an event has in the store, and where two of them stand among them.
const SCAN: &str =
    "SELECT pos, version, recorded_at, event_id, corr, caus, schema_version, stream_id, type, topic, key,
    payload, meta FROM es_event ORDER BY pos";
const TYPE: usize = 8;
const PAYLOAD: usize = 11;

/// Every field of every event, the payload as bytes.
pub(crate) async fn raw(setting: &Setting) -> anyhow::Result<Pair> {
    let log = Log::fill(setting).await?;
    let events = setting.events;
    let pass = async || read_all(&log.store, events, |event| Ok(event.event.len() as u64)).await;
    side_by_side(
        setting,
        async || passes(setting.round, pass).await,
        async || passes(setting.round, async || scan(&log.connection, events, touch)).await,
    )
    .await
}

/// Every payload decoded into its type.
pub(crate) async fn decoded(setting: &Setting) -> anyhow::Result<Pair> {
    let log = Log::fill(setting).await?;
    let events = setting.events;
    side_by_side(
        setting,
        async || passes(setting.round, async || read_all(&log.store, events, decode).await).await,
        async || passes(setting.round, async || scan(&log.connection, events, touch_decoded)).await,
    )
    .await
}

struct Log {
    store: EventStore,
    /// Reads the same file.
    connection: Connection,
    _folder: tempfile::TempDir,
}

impl Log {
    async fn fill(setting: &Setting) -> anyhow::Result<Self> {
        let folder = setting.fresh()?;
        let path = database(folder.path());
        let store = EventStore::connect(&format!("sqlite:{}", path.display())).await?;
        fill(&store, setting.events).await?;
        Ok(Self {
            store,
            connection: reader(&path)?,
            _folder: folder,
        })
    }
}

/// Stores so many events, in thousands.
pub(crate) async fn fill(store: &EventStore, events: usize) -> anyhow::Result<()> {
    for call in 0..events / 1_000 {
        let events = (0..1_000).map(new_event).collect::<anyhow::Result<Vec<NewEvent>>>()?;
        let stream = format!("bench-{}", call % 100).into();
        store
            .commit(Append {
                stream,
                expected: Expected::Any,
                events,
            })
            .await?;
    }
    Ok(())
}

/// Reads the whole log through the store.
pub(crate) async fn read_all(
    store: &EventStore,
    demanded: usize,
    touch: impl Fn(&Recorded) -> anyhow::Result<u64>,
) -> anyhow::Result<usize> {
    let mut reading = store.read_all().page(PAGE);
    let (mut events, mut sum) = (0, 0_u64);
    while let Some(event) = reading.next().await {
        let event = event?;
        events += 1;
        ensure!(
            event.position.0 == i64::try_from(events)?,
            "position {} is not dense",
            event.position
        );
        sum = sum.wrapping_add(touch(&event)?);
    }
    black_box(sum);
    ensure!(events == demanded, "read {events} events of {demanded}");
    Ok(events)
}

/// An event's payload as its type; a value of it that a reader has to look at.
pub(crate) fn decode(event: &Recorded) -> anyhow::Result<u64> {
    let typed = codec::decode::<OrderEvent>(&event.name, &event.event).context("an event of another type")??;
    Ok(typed.cents())
}

fn reader(path: &Path) -> anyhow::Result<Connection> {
    let connection = raw::connect(path)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(connection)
}

/// Steps over the whole table.
fn scan(connection: &Connection, demanded: usize, touch: fn(&Row<'_>) -> anyhow::Result<u64>) -> anyhow::Result<usize> {
    let mut statement = connection.prepare_cached(SCAN)?;
    let mut rows = statement.query([])?;
    let (mut events, mut sum) = (0, 0_u64);
    while let Some(row) = rows.next()? {
        events += 1;
        sum = sum.wrapping_add(touch(row)?);
    }
    black_box(sum);
    ensure!(events == demanded, "scanned {events} rows of {demanded}");
    Ok(events)
}

fn touch(row: &Row<'_>) -> anyhow::Result<u64> {
    let mut sum = 0_u64;
    for column in 0..row.as_ref().column_count() {
        sum = sum.wrapping_add(match row.get_ref(column)? {
            ValueRef::Integer(value) => value.cast_unsigned(),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len() as u64,
            ValueRef::Null | ValueRef::Real(_) => 0,
        });
    }
    Ok(sum)
}

fn touch_decoded(row: &Row<'_>) -> anyhow::Result<u64> {
    let (name, payload) = (row.get_ref(TYPE)?.as_str()?, row.get_ref(PAYLOAD)?.as_blob()?);
    let typed = codec::decode::<OrderEvent>(name, payload).context("another type")??;
    Ok(touch(row)?.wrapping_add(typed.cents()))
}

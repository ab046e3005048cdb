//! Appends: single events from many callers, and a thousand events a call from one.

use std::time::Duration;

use sagamill::eventstore::{Append, EventStore, Expected};

use crate::{
    case::{Setting, database},
    load::{blocking_loop, closed_loop},
    measure::{Pair, Sample, side_by_side},
    order::new_event,
    raw::{self, GroupCommit, Row},
};

/// Events of a call that has many.
pub(crate) const THOUSAND: u32 = 1_000;

/// So many callers, each appending single events to a stream of its own.
pub(crate) async fn single(setting: &Setting, callers: usize) -> anyhow::Result<Pair> {
    side_by_side(
        setting,
        async || store(setting, callers, 1).await,
        async || group_commit(setting, callers).await,
    )
    .await
}

/// One caller, a thousand events a call.
pub(crate) async fn thousand(setting: &Setting) -> anyhow::Result<Pair> {
    side_by_side(
        setting,
        async || store(setting, 1, THOUSAND).await,
        async || rows(setting),
    )
    .await
}

async fn store(setting: &Setting, callers: usize, events_per_call: u32) -> anyhow::Result<Sample> {
    let folder = setting.fresh()?;
    let path = database(folder.path());
    let store = EventStore::connect(&format!("sqlite:{}", path.display())).await?;
    let sample = load(&store, setting.round, callers, events_per_call).await?;
    let events = store.head().await?.position.0;
    store.close().await;
    bytes_per_event(sample, &path, events)
}

/// Callers with one append under way each, a stream of its own for each of them.
pub(crate) async fn load(
    store: &EventStore,
    round: Duration,
    callers: usize,
    events_per_call: u32,
) -> anyhow::Result<Sample> {
    let store = store.clone();
    closed_loop(round, callers, events_per_call, move |caller, number| {
        let store = store.clone();
        async move {
            let events = (0..events_per_call)
                .map(|_| new_event(number))
                .collect::<anyhow::Result<Vec<_>>>()?;
            let stream = format!("bench-{caller}").into();
            store
                .commit(Append {
                    stream,
                    expected: Expected::Any,
                    events,
                })
                .await?;
            Ok(())
        }
    })
    .await
}

/// Adds how big the file is, once what was in its write-ahead log is in it.
fn bytes_per_event(sample: Sample, path: &std::path::Path, events: i64) -> anyhow::Result<Sample> {
    raw::connect(path)?.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
    let bytes = std::fs::metadata(path)?.len() as f64 / events as f64;
    Ok(sample.with("bytes_per_event", bytes))
}

async fn group_commit(setting: &Setting, callers: usize) -> anyhow::Result<Sample> {
    let folder = setting.fresh()?;
    let writer = GroupCommit::start(raw::open(&database(folder.path()))?);
    closed_loop(setting.round, callers, 1, move |caller, number| {
        let writer = writer.clone();
        async move {
            let version = i64::try_from(number)? + 1;
            writer
                .insert(Row {
                    stream: format!("bench-{caller}"),
                    version,
                    event: new_event(number)?,
                })
                .await
        }
    })
    .await
}

fn rows(setting: &Setting) -> anyhow::Result<Sample> {
    let folder = setting.fresh()?;
    let mut connection = raw::open(&database(folder.path()))?;
    let mut version = 0;
    blocking_loop(setting.round, THOUSAND, || {
        let rows = (0..THOUSAND)
            .map(|number| {
                version += 1;
                Ok(Row {
                    stream: "bench-0".to_owned(),
                    version,
                    event: new_event(u64::from(number))?,
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        raw::insert(&mut connection, &rows)
    })
}

//! Replays of a whole log, as bytes and decoded, against `COPY … TO`.

use std::{hint::black_box, sync::Arc};

use anyhow::ensure;
use futures_util::TryStreamExt as _;
use sagamill::eventstore::{EventStore, Recorded};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Mutex;

use super::database::Database;
use crate::{
    case::Setting,
    load::passes,
    measure::{Pair, side_by_side},
    replay::{decode, fill, read_all},
};

/// All columns that an event has in the store, in order. Nothing looks at what comes.
const COPY: &str =
    "COPY (SELECT pos, version, recorded_at, event_id, corr, caus, schema_version, stream_id, type, topic, key,
    payload, meta FROM es.event ORDER BY pos) TO STDOUT (FORMAT binary)";

/// Every field of every event, the payload as bytes.
pub(crate) async fn raw(setting: &Setting) -> anyhow::Result<Pair> {
    replay(setting, |event| Ok(event.event.len() as u64)).await
}

/// Every payload decoded into its type.
pub(crate) async fn decoded(setting: &Setting) -> anyhow::Result<Pair> {
    replay(setting, decode).await
}

async fn replay(setting: &Setting, touch: fn(&Recorded) -> anyhow::Result<u64>) -> anyhow::Result<Pair> {
    let database = Database::create(setting).await?;
    let store = EventStore::connect(database.url()).await?;
    let events = setting.events;
    fill(&store, events).await?;
    let mut connection = PgConnection::connect(database.url()).await?;
    // Neither side is the first to look at a row after its insert.
    sqlx::raw_sql("VACUUM ANALYZE es.event")
        .execute(&mut connection)
        .await?;
    database.begin().await?;
    let connection = Arc::new(Mutex::new(connection));
    let pair = side_by_side(
        setting,
        async || passes(setting.round, async || read_all(&store, events, touch).await).await,
        async || passes(setting.round, async || copy(&connection, events).await).await,
    )
    .await?;
    store.close().await;
    database.remove().await?;
    Ok(pair)
}

async fn copy(connection: &Mutex<PgConnection>, events: usize) -> anyhow::Result<usize> {
    let mut connection = connection.lock().await;
    let mut stream = connection.copy_out_raw(COPY).await?;
    let mut bytes = 0;
    while let Some(chunk) = stream.try_next().await? {
        bytes += chunk.len();
    }
    black_box(bytes);
    ensure!(bytes > events, "{bytes} bytes of {events} events");
    Ok(events)
}

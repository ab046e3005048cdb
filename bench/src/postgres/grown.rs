//! Appends to a log that has grown, against the same on a smaller one.

use sagamill::eventstore::{Append, EventStore, Expected};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use super::{
    append::{bytea, make_tables},
    database::Database,
};
use crate::{
    case::Setting,
    load::closed_loop,
    measure::{Pair, Sample, side_by_side},
    order::new_event,
};

/// Single appends in flight.
const CALLERS: usize = 256;
/// Events of a stream. Their streams' names are in no order, so that appends go all over that index.
const STREAM: u64 = 10;
/// Rows that are made at once.
const CHUNK: usize = 500_000;

/// The same appends on both logs, in turns.
pub(crate) async fn run(setting: &Setting) -> anyhow::Result<Pair> {
    let large = filled(setting, setting.large).await?;
    let small = filled(setting, setting.small).await?;
    let pair = side_by_side(
        setting,
        async || append(setting, &large).await,
        async || append(setting, &small).await,
    )
    .await?;
    for database in [large, small] {
        database.remove().await?;
    }
    Ok(pair)
}

async fn filled(setting: &Setting, events: usize) -> anyhow::Result<Database> {
    let database = Database::create(setting).await?;
    make_tables(&database).await?;
    let mut connection = PgConnection::connect(database.url()).await?;
    // An index over names in no order is made in a fraction of the time when all of them are there.
    let index = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'es' AND indexname = 'event_stream_version'";
    let index: String = sqlx::query_scalar(index).fetch_one(&mut connection).await?;
    sqlx::raw_sql("DROP INDEX es.event_stream_version")
        .execute(&mut connection)
        .await?;
    let (event, mut made) = (new_event(1)?, 0);
    while made < events {
        let end = (made + CHUNK).min(events);
        let rows = format!(
            "INSERT INTO es.event (pos, version, append_hash, event_id, stream_id, type, payload)
             SELECT i, 1 + (i - 1) % {STREAM}, 1, lpad(to_hex(i), 32, '0')::uuid, 'order-' || md5(((i - 1) / {STREAM})::text),
                    '{}', {} FROM generate_series({}, {end}) AS i",
            event.name,
            bytea(&event.payload)?,
            made + 1
        );
        sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut connection).await?;
        made = end;
    }
    sqlx::raw_sql(AssertSqlSafe(index)).execute(&mut connection).await?;
    sqlx::raw_sql("VACUUM ANALYZE es.event")
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(database)
}

async fn append(setting: &Setting, database: &Database) -> anyhow::Result<Sample> {
    let store = EventStore::connect(database.url()).await?;
    database.begin().await?;
    let run = Uuid::new_v4();
    let sample = {
        let store = store.clone();
        closed_loop(setting.round, CALLERS, 1, move |caller, number| {
            let store = store.clone();
            async move {
                let name = format!("{run}-{caller}-{}", number / STREAM);
                let stream = format!("order-{}", Uuid::new_v5(&run, name.as_bytes()).simple());
                store
                    .commit(Append {
                        stream: stream.into(),
                        expected: Expected::Any,
                        events: vec![new_event(number)?],
                    })
                    .await?;
                Ok(())
            }
        })
        .await?
    };
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let events = store.head().await?.position.0 as f64;
    store.close().await;
    Ok(sample.with("events", events))
}

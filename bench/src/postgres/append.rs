//! Appends, against one-row inserts by as many clients as serve the server best, and against a thousand rows a transaction.

use std::fmt::Write as _;

use sagamill::eventstore::{Dialect, EventStore, migrations};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{
    database::Database,
    pgbench::{self, Script},
    worker::{Task, Worker},
};
use crate::{
    append::{THOUSAND, load},
    case::Setting,
    measure::{Pair, Sample, side_by_side},
    order::new_event,
};

/// Clients of the raw inserts at most: with more of them the server does less.
const CLIENTS: usize = 32;
/// Single appends in flight where two processes share them.
const SHARED: usize = 256;

/// So many callers, each appending single events to a stream of its own.
pub(crate) async fn single(setting: &Setting, callers: usize) -> anyhow::Result<Pair> {
    let clients = u32::try_from(callers.min(CLIENTS))?;
    side_by_side(
        setting,
        async || store(setting, callers, 1).await,
        async || rows(setting, clients, 1).await,
    )
    .await
}

/// One caller, a thousand events a call.
pub(crate) async fn thousand(setting: &Setting) -> anyhow::Result<Pair> {
    side_by_side(
        setting,
        async || store(setting, 1, THOUSAND).await,
        async || rows(setting, 1, THOUSAND).await,
    )
    .await
}

/// Two processes with half of the callers each, against one with all of them.
pub(crate) async fn two_processes(setting: &Setting) -> anyhow::Result<Pair> {
    side_by_side(
        setting,
        async || processes(setting, 2).await,
        async || processes(setting, 1).await,
    )
    .await
}

async fn store(setting: &Setting, callers: usize, events_per_call: u32) -> anyhow::Result<Sample> {
    let database = Database::create(setting).await?;
    let store = EventStore::connect(database.url()).await?;
    database.begin().await?;
    let sample = load(&store, setting.round, callers, events_per_call).await?;
    let events = store.head().await?.position.0;
    store.close().await;
    let sample = sample.with("bytes_per_event", bytes_per_event(&database, events).await?);
    database.remove().await?;
    Ok(sample)
}

async fn rows(setting: &Setting, clients: u32, rows_per_call: u32) -> anyhow::Result<Sample> {
    let database = Database::create(setting).await?;
    make_tables(&database).await?;
    database.begin().await?;
    let script = Script {
        text: &insert(rows_per_call)?,
        clients,
        units: rows_per_call,
    };
    let sample = pgbench::run(setting, &database, &script).await?;
    database.remove().await?;
    Ok(sample)
}

async fn processes(setting: &Setting, count: usize) -> anyhow::Result<Sample> {
    let database = Database::create(setting).await?;
    // The tables are made once, before anybody competes for it.
    EventStore::connect(database.url()).await?.close().await;
    database.begin().await?;
    let mut workers = Vec::new();
    for _ in 0..count {
        let task = Task::Append {
            callers: SHARED / count,
            seconds: setting.round.as_secs_f64(),
        };
        workers.push(Worker::start(task, database.url()).await?);
    }
    for worker in &mut workers {
        worker.tell("go").await?;
    }
    let mut rate = 0.0;
    for mut worker in workers {
        rate += worker.hear().await?.parse::<f64>()?;
        worker.end().await?;
    }
    let mut connection = PgConnection::connect(database.url()).await?;
    let events: i64 = sqlx::query_scalar("SELECT max(pos) FROM es.event")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    database.remove().await?;
    Ok(Sample::new(rate, usize::try_from(events)?, Vec::new()))
}

/// The log's own tables, and positions from a sequence.
pub(super) async fn make_tables(database: &Database) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(database.url()).await?;
    for migration in migrations(Dialect::Postgres) {
        sqlx::raw_sql(migration.sql).execute(&mut connection).await?;
    }
    sqlx::raw_sql("CREATE SEQUENCE bench_pos")
        .execute(&mut connection)
        .await?;
    Ok(connection.close().await?)
}

/// Rows of the log in one statement, without anything that makes a log of them. Ids grow, as ours do.
fn insert(rows: u32) -> anyhow::Result<String> {
    let event = new_event(1)?;
    let payload = bytea(&event.payload)?;
    let name = &event.name;
    let columns = "INSERT INTO es.event (pos, version, append_hash, event_id, stream_id, type, payload)";
    let id = |number: &str| format!("lpad(to_hex({number}), 32, '0')::uuid");
    Ok(if rows == 1 {
        format!(
            "\\set n :n + 1\n{columns} VALUES (nextval('bench_pos'), :n, 1, {}, 'bench-' || :client_id, '{name}', {payload});\n",
            id("currval('bench_pos')")
        )
    } else {
        format!(
            "\\set n :n + {rows}\n{columns} SELECT :n + i, :n + i, NULL, {}, 'bench-0', '{name}', {payload} FROM generate_series(1, {rows}) AS i;\n",
            id(":n + i")
        )
    })
}

/// Bytes as a literal.
pub(super) fn bytea(bytes: &[u8]) -> anyhow::Result<String> {
    let mut hex = String::from("'\\x");
    for byte in bytes {
        write!(hex, "{byte:02x}")?;
    }
    Ok(hex + "'::bytea")
}

/// How big the events are on disk, their indexes included.
async fn bytes_per_event(database: &Database, events: i64) -> anyhow::Result<f64> {
    let mut connection = PgConnection::connect(database.url()).await?;
    let size = "SELECT pg_total_relation_size('es.event')::float8";
    let bytes: f64 = sqlx::query_scalar(AssertSqlSafe(size))
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    Ok(bytes / events as f64)
}

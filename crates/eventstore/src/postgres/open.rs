//! Opening a log: from a URL, or on a pool that is there already.

use std::{
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::{
    clock::Clock,
    connector::Connector,
    failure,
    log::{PostgresLog, Shared},
    news::News,
    readers::Readers,
    ringer, schema,
    staging::Staging,
    time::At,
};
use crate::{AnyPool, Error, EventStore, Position, Result, bell::Bell};

/// Connections for participants and joins on a store that was opened by URL.
const POOL: u32 = 8;
/// How long such a connection is waited for.
const ACQUIRE: Duration = Duration::from_secs(10);
/// The oldest server that has what the log's tables need.
const OLDEST: i32 = 15;

/// A store on the database that a `postgres:` URL names.
pub(crate) async fn connect(url: &str) -> Result<EventStore> {
    let options = PgConnectOptions::from_str(url).map_err(|error| Error::Invalid {
        what: format!("`{}`: {error}", failure::redacted(url)),
    })?;
    let named = options.get_application_name().is_some();
    let options = if named {
        options
    } else {
        options.application_name("sagamill")
    };
    let pool = PgPoolOptions::new()
        .max_connections(POOL)
        .acquire_timeout(ACQUIRE)
        // The store's own `begin` finds out by beginning.
        .test_before_acquire(false)
        .connect_lazy_with(options.clone());
    let log = open(Connector::new(options), Some(pool.clone())).await?;
    Ok(EventStore::over(Arc::new(log), AnyPool::Postgres(pool)))
}

/// A store on the database of a pool. It makes connections of its own beside it, so that whoever holds the pool's can still
/// read and append.
pub(crate) async fn attach(pool: PgPool) -> Result<EventStore<sqlx::Postgres>> {
    let connector = Connector::new(PgConnectOptions::clone(&pool.connect_options()));
    let log = open(connector, None).await?;
    Ok(EventStore::over(Arc::new(log), AnyPool::Postgres(pool)))
}

async fn open(connector: Connector, pool: Option<PgPool>) -> Result<PostgresLog> {
    let connector = Arc::new(connector);
    let [mut reader, writer] = connector.first().await?;
    let at = |error: Error| match error {
        Error::Unusable { what } => Error::Unusable {
            what: format!("`{}`: {what}", connector.shown()),
        },
        other => other,
    };
    check_server(&mut reader).await.map_err(at)?;
    schema::migrate(&mut reader).await.map_err(at)?;
    let (id, head, said, heard) = look(&mut reader).await.map_err(at)?;
    let shared = Shared {
        id,
        instance: Uuid::new_v4(),
        readers: Readers::new(connector.clone(), [reader]),
        connector,
        clock: Clock::new(said.0, heard),
        staging: Staging::new(),
        bell: Bell::new(Position(head)),
        news: News::default(),
        rung: ringer::Rung::default(),
        sooner: Notify::new(),
        looks: watch::Sender::new(true),
    };
    Ok(PostgresLog::new(shared, writer, pool))
}

/// # Errors
/// [`Error::Unusable`] for a server that cannot hold a log.
async fn check_server(connection: &mut PgConnection) -> Result<()> {
    let facts = "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
        current_setting('server_encoding'), pg_is_in_recovery()";
    let (number, version, encoding, standby): (i32, String, String, bool) =
        sqlx::query_as(facts).fetch_one(connection).await.map_err(failure::of)?;
    let unusable = |what: String| Err(Error::Unusable { what });
    if number / 10_000 < OLDEST {
        return unusable(format!(
            "the server is PostgreSQL {version}; a log needs {OLDEST} or later"
        ));
    }
    if encoding != "UTF8" {
        return unusable(format!(
            "the database's encoding is {encoding}; make one by CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        ));
    }
    if standby {
        return unusable("the server is a standby, which takes no writes: connect to the primary".to_owned());
    }
    Ok(())
}

async fn look(connection: &mut PgConnection) -> Result<(Uuid, i64, At, Instant)> {
    let sql = "SELECT log_id, coalesce((SELECT pos FROM es.event ORDER BY pos DESC LIMIT 1), 0), clock_timestamp()
        FROM es.log_meta";
    let found = sqlx::query_as(sql).fetch_one(connection).await;
    let (id, head, said) = found.map_err(failure::of)?;
    Ok((id, head, said, Instant::now()))
}

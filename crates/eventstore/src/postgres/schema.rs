//! The tables of a log in a PostgreSQL database, brought up to date.

use sqlx::{Connection, PgConnection};

use super::failure;
use crate::{
    Error, Result,
    migration::{Migration, missing},
};

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    revision: 1,
    sql: concat!(
        include_str!("v1-tables.sql"),
        include_str!("v1-append.sql"),
        include_str!("v1-desk.sql"),
        include_str!("v1-bus.sql")
    ),
}];

/// One at a time in a database; whoever comes second finds the tables there.
const LOCK: &str = "SELECT pg_advisory_xact_lock(x'6573000053616761'::bigint)";
/// Not `to_regclass`, which may know from before the lock was waited for that there is none.
const IS_THERE: &str = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'es' AND tablename = 'log_meta')";
const REVISION: &str = "SELECT schema_rev FROM es.log_meta";

/// Needs no right to make tables where there are none to be made.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<()> {
    if missing(MIGRATIONS, revision(connection).await?)?.is_empty() {
        return Ok(());
    }
    let mut tx = connection.begin().await.map_err(failure::of)?;
    sqlx::query(LOCK).execute(&mut *tx).await.map_err(failure::of)?;
    for step in missing(MIGRATIONS, revision(&mut tx).await?)? {
        let made = sqlx::raw_sql(step.sql).execute(&mut *tx).await;
        made.map_err(|error| cannot_make(failure::of(error)))?;
        tracing::info!(revision = step.revision, "the log's tables were made or changed");
    }
    tx.commit().await.map_err(failure::of)
}

async fn revision(connection: &mut PgConnection) -> Result<i64> {
    let is_there: bool = sqlx::query_scalar(IS_THERE)
        .fetch_one(&mut *connection)
        .await
        .map_err(failure::of)?;
    if !is_there {
        return Ok(0);
    }
    sqlx::query_scalar(REVISION)
        .fetch_one(connection)
        .await
        .map_err(failure::of)
}

fn cannot_make(error: Error) -> Error {
    match error {
        Error::Unusable { what } => Error::Unusable {
            what: format!("the log's tables cannot be made: {what}"),
        },
        Error::Database(source) => Error::Unusable {
            what: format!("the log's tables cannot be made: {source}"),
        },
        other => other,
    }
}

//! How the log and its server are.

use sqlx::{FromRow, PgConnection, Row, postgres::PgRow};

use super::{readers::Done, time::At};
use crate::{
    Health,
    health::{LockHolder, Setting, Staged},
};

const FACTS: &str = "SELECT current_setting('server_version'), (SELECT schema_rev FROM es.log_meta),
    (SELECT count(*) FROM es.staged), (SELECT min(staged_at) FROM es.staged), (SELECT count(*) FROM es.staged_failed),
    es.timeline()";
/// The key is that of `es.append`, in two halves.
const HOLDER: &str = "WITH l AS (
        SELECT pid, granted FROM pg_locks
         WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint = x'65730001'::bigint AND objid = 'es.event'::regclass
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
    SELECT l.pid, coalesce(a.application_name, ''), coalesce(a.state, ''), a.xact_start, (SELECT count(*) FROM l WHERE NOT granted)
      FROM l LEFT JOIN pg_stat_activity a USING (pid) WHERE l.granted";
const SETTINGS: &str = "SELECT name, setting FROM pg_settings WHERE name IN (
    'autovacuum', 'fsync', 'full_page_writes', 'lock_timeout', 'max_connections', 'statement_timeout', 'synchronous_commit',
    'synchronous_standby_names') ORDER BY name";

pub(super) async fn health(mut connection: PgConnection) -> Done<Health> {
    let health = look(&mut connection).await;
    (connection, health)
}

async fn look(connection: &mut PgConnection) -> sqlx::Result<Health> {
    let facts = sqlx::query(FACTS).fetch_one(&mut *connection).await?;
    let mut health = Health::of("postgres", facts.try_get(0)?, facts.try_get(1)?);
    health.staged = Staged {
        waiting: facts.try_get::<i64, _>(2)?.unsigned_abs(),
        oldest: facts.try_get::<Option<At>, _>(3)?.map(|at| at.0),
        failed: facts.try_get::<i64, _>(4)?.unsigned_abs(),
    };
    health.lock = holder(connection).await?;
    let settings: Vec<(String, String)> = sqlx::query_as(SETTINGS).fetch_all(connection).await?;
    health.settings = settings.into_iter().map(|(name, value)| setting(name, value)).collect();
    let timeline: Option<String> = facts.try_get(5)?;
    health
        .settings
        .extend(timeline.map(|timeline| setting("timeline".to_owned(), timeline)));
    Ok(health)
}

/// Who holds the log's lock, whoever asks.
pub(super) async fn holder(connection: &mut PgConnection) -> sqlx::Result<Option<LockHolder>> {
    sqlx::query_as(HOLDER).fetch_optional(connection).await
}

impl FromRow<'_, PgRow> for LockHolder {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            pid: row.try_get(0)?,
            application: row.try_get(1)?,
            state: row.try_get(2)?,
            since: row.try_get::<Option<At>, _>(3)?.map(|at| at.0),
            waiting: row.try_get::<i64, _>(4)?.unsigned_abs(),
        })
    }
}

pub(super) fn setting(name: String, value: String) -> Setting {
    let problem = match (name.as_str(), value.as_str()) {
        ("fsync", "off") => Some("a crash of the machine loses appended events, or all of the database"),
        ("full_page_writes", "off") => Some("a crash of the machine may damage the log"),
        ("autovacuum", "off") => Some("staged events leave dead rows behind, and each look for them gets slower"),
        _ => None,
    };
    Setting { name, value, problem }
}

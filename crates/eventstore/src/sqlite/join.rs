//! Events that join a caller's transaction, over the caller's own connection: the file's write lock is the log's lock.

use sqlx::{Connection, SqliteConnection};

use super::{failure::of_sqlx as failed, write};
use crate::{Append, Error, NewEvent, Result, StreamId, Version, backend::micros, entry};

/// One statement, so that it takes the lock before it looks, also in a transaction that has only read so far.
const INSERT: &str = "INSERT INTO es_event
    (pos, version, recorded_at, append_hash, event_id, corr, caus, schema_version, stream_id, type, topic, key, payload, meta)
    SELECT coalesce((SELECT max(pos) FROM es_event), 0) + 1,
           coalesce((SELECT version FROM es_event WHERE stream_id = ?7 ORDER BY version DESC LIMIT 1), 0) + 1,
           max(?1, coalesce((SELECT recorded_at FROM es_event ORDER BY pos DESC LIMIT 1), ?1)),
           ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12
     WHERE NOT EXISTS (SELECT 1 FROM es_event WHERE event_id = ?3)";
/// Some of an append were there before: a repeat of all of them is none of this append.
const DISOWN: &str = "UPDATE es_event SET append_hash = NULL WHERE event_id = ?1";

/// Stores facts; those that are in the log already are left out.
pub(super) async fn stage(connection: &mut SqliteConnection, append: Append) -> Result<()> {
    entry::check_append(&append)?;
    fail::fail_point!("log.stage.before");
    let mut savepoint = connection.begin().await.map_err(failed)?;
    insert(&mut savepoint, &append).await?;
    let (_, closed) = stream(&mut savepoint, &append.stream).await?;
    if closed {
        return Err(Error::Closed(append.stream));
    }
    savepoint.commit().await.map_err(failed)?;
    fail::fail_point!("log.stage.after");
    Ok(())
}

/// Stores events where the stream is as expected; nothing of them where it is not.
pub(super) async fn append(connection: &mut SqliteConnection, append: Append) -> Result<()> {
    entry::check_append(&append)?;
    fail::fail_point!("log.stage.before");
    // Dropped on the way out with an error, it is rolled back; the caller's own work stays.
    let mut savepoint = connection.begin().await.map_err(failed)?;
    let new = insert(&mut savepoint, &append).await?;
    let (version, closed) = stream(&mut savepoint, &append.stream).await?;
    let actual = Version(version - new.len() as i64);
    if let Some(known) = append.events.iter().find(|event| !new.contains(&event.id)) {
        return Err(Error::Repeated(known.id));
    }
    if closed {
        return Err(Error::Closed(append.stream));
    }
    if !append.expected.allows(actual) {
        let Append { stream, expected, .. } = append;
        return Err(Error::Conflict {
            stream,
            expected,
            actual,
        });
    }
    savepoint.commit().await.map_err(failed)?;
    fail::fail_point!("log.stage.after");
    Ok(())
}

/// The ids of those that were not there.
async fn insert(connection: &mut SqliteConnection, append: &Append) -> Result<Vec<uuid::Uuid>> {
    let hash = entry::hash(&append.stream, &append.events);
    let now = micros();
    let mut new = Vec::with_capacity(append.events.len());
    for (n, event) in append.events.iter().enumerate() {
        let NewEvent {
            id,
            name,
            schema,
            topic,
            key,
            correlation,
            causation,
            payload,
            ..
        } = event;
        let row = sqlx::query(INSERT)
            .bind(now)
            .bind((n == 0).then_some(hash))
            .bind(id)
            .bind(correlation)
            .bind(causation)
            .bind(schema)
            .bind(append.stream.as_str())
            .bind(name)
            .bind(topic.as_ref().map(AsRef::<str>::as_ref))
            .bind(key)
            .bind(&payload[..])
            .bind(event.meta());
        if row.execute(&mut *connection).await.map_err(failed)?.rows_affected() > 0 {
            new.push(*id);
        }
    }
    let first = append.events[0].id;
    if new.len() < append.events.len() && new.first() == Some(&first) {
        sqlx::query(DISOWN)
            .bind(first)
            .execute(connection)
            .await
            .map_err(failed)?;
    }
    Ok(new)
}

async fn stream(connection: &mut SqliteConnection, stream: &StreamId) -> Result<(i64, bool)> {
    sqlx::query_as(write::STREAM)
        .bind(stream.as_str())
        .fetch_one(connection)
        .await
        .map_err(failed)
}

//! Events that join a caller's transaction, over the caller's own connection. No lock is taken before its COMMIT.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{answer, call, failure::of as failed};
use crate::{Append, Error, NewEvent, Result, Version, entry};

/// One statement for all events. The transaction's id comes back: once it and all before it have ended, nothing of this is
/// staged any more. No row comes back where the stream is closed.
const STAGE: &str = "INSERT INTO es.staged
    (append_hash, append_id, append_size, event_id, schema_version, corr, caus, stream_id, type, topic, key, payload, meta)
    SELECT CASE WHEN e.n = 1 THEN $2 END, $3, cardinality($4), e.id, e.schema, e.corr, e.caus, $1, e.name, e.topic, e.key, e.payload, e.meta
      FROM unnest($4, $5, $6, $7, $8, $9, $10, $11, $12) WITH ORDINALITY
           AS e(id, name, payload, schema, corr, caus, topic, key, meta, n)
     WHERE NOT EXISTS (SELECT FROM es.stream s WHERE s.stream_id = $1 AND s.state <> 0)
     ORDER BY e.n
    RETURNING tx::text::bigint";

/// The same for one event, as most are staged: no arrays to take apart, and nothing to sort.
const STAGE_ONE: &str = "INSERT INTO es.staged
    (append_hash, append_id, event_id, type, payload, schema_version, corr, caus, topic, key, meta, stream_id)
    SELECT $2, $3, $3, $4, $5, $6, $7, $8, $9, $10, $11, $1
     WHERE NOT EXISTS (SELECT FROM es.stream s WHERE s.stream_id = $1 AND s.state <> 0)
    RETURNING tx::text::bigint";

const JOIN: &str = "SELECT status, version, repeated FROM es.join($1, $12, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// Writes facts down. Answers the transaction that they are in.
pub(super) async fn stage(connection: &mut PgConnection, append: &Append) -> Result<i64> {
    entry::check_append(append)?;
    fail::fail_point!("log.stage.before");
    let transaction = match &append.events[..] {
        [event] => stage_one(connection, append, event).await,
        events => stage_all(connection, append, events).await,
    };
    let transaction = transaction.map_err(failed)?;
    fail::fail_point!("log.stage.after");
    transaction.ok_or_else(|| Error::Closed(append.stream.clone()))
}

async fn stage_one(connection: &mut PgConnection, append: &Append, event: &NewEvent) -> sqlx::Result<Option<i64>> {
    let hash = entry::hash(&append.stream, &append.events);
    sqlx::query_scalar(STAGE_ONE)
        .bind(append.stream.as_str())
        .bind(hash)
        .bind(event.id)
        .bind(event.name.as_str())
        .bind(&event.payload[..])
        .bind(event.schema.cast_signed())
        .bind(event.correlation)
        .bind(event.causation)
        .bind(call::topic(event))
        .bind(event.key.as_deref())
        .bind(event.meta())
        .fetch_optional(connection)
        .await
}

async fn stage_all(connection: &mut PgConnection, append: &Append, events: &[NewEvent]) -> sqlx::Result<Option<i64>> {
    let hash = entry::hash(&append.stream, events);
    sqlx::query_scalar(STAGE)
        .bind(append.stream.as_str())
        .bind(hash)
        .bind(events[0].id)
        .bind(column(events, |event| event.id))
        .bind(column(events, |event| event.name.as_str()))
        .bind(column(events, |event| &event.payload[..]))
        .bind(column(events, |event| event.schema.cast_signed()))
        .bind(column(events, |event| event.correlation))
        .bind(column(events, |event| event.causation))
        .bind(column(events, call::topic))
        .bind(column(events, |event| event.key.as_deref()))
        .bind(column(events, NewEvent::meta))
        .fetch_optional(connection)
        .await
}

/// Appends at COMMIT, where the stream is as expected; what can be said before is said at once.
pub(super) async fn append(connection: &mut PgConnection, append: Append) -> Result<()> {
    entry::check_append(&append)?;
    fail::fail_point!("log.stage.before");
    let events = &append.events;
    let joined = sqlx::query_as(JOIN)
        .bind(append.stream.as_str())
        .bind(entry::hash(&append.stream, events))
        .bind(column(events, |event| event.id))
        .bind(column(events, |event| event.name.as_str()))
        .bind(column(events, |event| &event.payload[..]))
        .bind(column(events, |event| event.schema.cast_signed()))
        .bind(column(events, |event| event.correlation))
        .bind(column(events, |event| event.causation))
        .bind(column(events, call::topic))
        .bind(column(events, |event| event.key.as_deref()))
        .bind(column(events, NewEvent::meta))
        .bind(call::expected(append.expected))
        .fetch_one(connection);
    let (status, version, repeated): (Option<i16>, Option<i64>, Option<Uuid>) = joined.await.map_err(failed)?;
    fail::fail_point!("log.stage.after");
    if let Some(repeated) = repeated {
        return Err(Error::Repeated(repeated));
    }
    let Append { stream, expected, .. } = append;
    match status {
        None => Ok(()),
        Some(answer::CLOSED) => Err(Error::Closed(stream)),
        Some(_) => Err(Error::Conflict {
            stream,
            expected,
            actual: Version(version.unwrap_or_default()),
        }),
    }
}

fn column<'e, T>(events: &'e [NewEvent], of: impl Fn(&'e NewEvent) -> T) -> Vec<T> {
    events.iter().map(of).collect()
}

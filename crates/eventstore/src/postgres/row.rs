//! Rows as recorded events.

use bytes::Bytes;
use sagamill_bus::{Headers, Topic};
use sqlx::{
    Row, Value, ValueRef,
    postgres::{PgRow, PgValue, PgValueRef},
};

use super::time::At;
use crate::{Position, Recorded, StreamId, Version};

/// The columns that [`recorded`] takes, in its order.
pub(super) const COLUMNS: &str =
    "pos, version, recorded_at, event_id, corr, caus, schema_version, stream_id, type, topic, key, payload, meta";

/// Payloads from this size on are not copied out of what was read from the server; smaller ones are, because each would
/// hold on to all that was read with it.
const SLICED: usize = 8 << 10;

pub(super) fn recorded(row: &PgRow) -> sqlx::Result<Recorded> {
    Ok(Recorded {
        position: Position(row.try_get(0)?),
        version: Version(row.try_get(1)?),
        at: row.try_get::<At, _>(2)?.0,
        id: row.try_get(3)?,
        correlation: row.try_get(4)?,
        causation: row.try_get(5)?,
        schema: row.try_get::<i16, _>(6)?.cast_unsigned(),
        stream: StreamId::from(row.try_get::<String, _>(7)?),
        name: row.try_get(8)?,
        topic: row.try_get::<Option<String>, _>(9)?.map(Topic::from),
        key: row.try_get(10)?,
        event: payload(&row.try_get_raw(11)?)?,
        headers: headers(row.try_get(12)?)?,
    })
}

fn payload(value: &PgValueRef<'_>) -> sqlx::Result<Bytes> {
    let bytes = value.as_bytes().map_err(sqlx::Error::Decode)?;
    if bytes.len() < SLICED {
        return Ok(Bytes::copy_from_slice(bytes));
    }
    Ok(Bytes::from_owner(Held(ValueRef::to_owned(value))))
}

/// A value that is part of what was read from the server.
struct Held(PgValue);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref().as_bytes().unwrap_or_default()
    }
}

pub(super) fn headers(json: Option<&[u8]>) -> sqlx::Result<Headers> {
    let read = |json| serde_json::from_slice(json).map_err(|error| sqlx::Error::Decode(error.into()));
    json.map_or_else(|| Ok(Headers::new()), read)
}

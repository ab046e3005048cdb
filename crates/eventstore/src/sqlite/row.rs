//! Rows as recorded events.

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use rusqlite::{
    Row,
    types::{FromSqlError, Type, ValueRef},
};
use sagamill_bus::{Headers, Topic};
use uuid::Uuid;

use crate::{Position, Recorded, StreamId, Version};

/// The columns that [`push_recorded`] takes, in its order.
pub(super) const COLUMNS: &str =
    "pos, version, recorded_at, event_id, corr, caus, schema_version, stream_id, type, topic, key, payload, meta";

/// The payloads of a page. Small ones share pieces of memory, so that reading a log is not one allocation for each of its
/// events; an event that is kept keeps no more than one such piece.
#[derive(Default)]
pub(super) struct Payloads(BytesMut);

impl Payloads {
    const PIECE: usize = 8 << 10;
    /// A bigger one has memory of its own.
    const SMALL: usize = 1 << 10;

    fn take(&mut self, payload: &[u8]) -> Bytes {
        if payload.len() > Self::SMALL {
            return Bytes::copy_from_slice(payload);
        }
        if self.0.capacity() < payload.len() {
            self.0 = BytesMut::with_capacity(Self::PIECE);
        }
        self.0.extend_from_slice(payload);
        self.0.split().freeze()
    }
}

/// Adds an event to a page; made in its place there, because it is large to be moved.
pub(super) fn push_recorded(
    row: &Row<'_>,
    payloads: &mut Payloads,
    events: &mut Vec<Recorded>,
) -> rusqlite::Result<()> {
    events.push(Recorded {
        position: Position(row.get(0)?),
        version: Version(row.get(1)?),
        at: time(row, 2)?,
        id: id(row, 3)?.ok_or_else(|| unfit(3, Type::Null))?,
        correlation: id(row, 4)?,
        causation: id(row, 5)?,
        schema: row.get(6)?,
        stream: StreamId::from(row.get::<_, String>(7)?),
        name: row.get(8)?,
        topic: row.get::<_, Option<String>>(9)?.map(Topic::from),
        key: row.get(10)?,
        event: payloads.take(row.get_ref(11)?.as_blob()?),
        headers: headers(row, 12)?,
    });
    Ok(())
}

/// An id that may be null.
pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Uuid>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(bytes) => Uuid::from_slice(bytes).map(Some).map_err(|_| unfit(column, Type::Blob)),
        other => Err(unfit(column, other.data_type())),
    }
}

/// A time in microseconds.
pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(row.get(column)?).map_err(|_| unfit(column, Type::Integer))
}

/// Headers; none where the column is null.
pub(super) fn headers(row: &Row<'_>, column: usize) -> rusqlite::Result<Headers> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(Headers::new()),
        ValueRef::Blob(json) => serde_json::from_slice(json)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, error.into())),
        other => Err(unfit(column, other.data_type())),
    }
}

fn unfit(column: usize, is: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, is, FromSqlError::InvalidType.into())
}

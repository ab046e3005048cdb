//! The tables of a log in a SQLite file, brought up to date.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use uuid::Uuid;

use super::failure;
use crate::{
    Result,
    migration::{Migration, missing},
};

/// Where it is written down which steps were applied. It comes before the first step.
const META: &str = "
CREATE TABLE IF NOT EXISTS es_log_meta (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  log_id BLOB NOT NULL,
  schema_rev INTEGER NOT NULL
) STRICT;";

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        revision: 1,
        sql: include_str!("v1.sql"),
    },
    Migration {
        revision: 2,
        sql: include_str!("v2.sql"),
    },
];

/// Brings the tables up to date. Safe when two processes open the file at once: the second waits, and finds them there.
pub(super) fn migrate(connection: &mut Connection) -> Result<Uuid> {
    let tx = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failure::of)?;
    let id = migrate_in(&tx).map_err(failure::of)??;
    tx.commit().map_err(failure::of)?;
    Ok(id)
}

fn migrate_in(tx: &Connection) -> rusqlite::Result<Result<Uuid>> {
    tx.execute_batch(META)?;
    let meta = "SELECT log_id, schema_rev FROM es_log_meta";
    let found = tx
        .query_row(meta, [], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let (id, revision) = found.map_or_else(
        || (Uuid::new_v4(), 0),
        |(id, revision)| (Uuid::from_bytes(id), revision),
    );
    let steps = match missing(MIGRATIONS, revision) {
        Ok(steps) => steps,
        Err(error) => return Ok(Err(error)),
    };
    let note = "INSERT INTO es_log_meta VALUES (1, ?1, ?2) ON CONFLICT DO UPDATE SET schema_rev = ?2";
    for step in steps {
        tx.execute_batch(step.sql)?;
        tx.execute(note, params![&id.as_bytes()[..], step.revision])?;
    }
    Ok(Ok(id))
}

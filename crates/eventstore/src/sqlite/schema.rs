//! The tables of a log, as steps that are applied once each, in order.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use uuid::Uuid;

use super::failure;
use crate::{Error, Result};

/// A database's own SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// SQLite 3.37 or later.
    Sqlite,
}

/// A step of a log's tables. Opening a store applies those that are missing, each in a transaction; they are public so
/// that they can be read before.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Migration {
    /// Counts the steps, from 1.
    pub revision: i64,
    /// Its statements.
    pub sql: &'static str,
}

/// All steps, in order.
pub fn migrations(dialect: Dialect) -> &'static [Migration] {
    match dialect {
        Dialect::Sqlite => SQLITE,
    }
}

/// Where it is written down which steps were applied. It comes before the first step.
const META: &str = "
CREATE TABLE IF NOT EXISTS es_log_meta (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  log_id BLOB NOT NULL,
  schema_rev INTEGER NOT NULL
) STRICT;";

const SQLITE: &[Migration] = &[Migration {
    revision: 1,
    sql: include_str!("v1.sql"),
}];

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
    let newest = SQLITE.last().map_or(0, |step| step.revision);
    if revision > newest {
        let what = format!("its tables have revision {revision}, this build knows up to {newest}: use a newer build");
        return Ok(Err(Error::Unusable { what }));
    }
    for step in SQLITE.iter().filter(|step| step.revision > revision) {
        tx.execute_batch(step.sql)?;
    }
    let note = "INSERT INTO es_log_meta VALUES (1, ?1, ?2) ON CONFLICT DO UPDATE SET schema_rev = ?2";
    tx.execute(note, params![&id.as_bytes()[..], newest])?;
    Ok(Ok(id))
}

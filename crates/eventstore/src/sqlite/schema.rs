//! The tables of a log in a SQLite file, brought up to date.

use rusqlite::{Connection, TransactionBehavior};
use uuid::Uuid;

use super::failure;
use crate::{
    Result,
    migration::{Migration, missing},
};

/// Each step writes down itself that it was applied, so that they can be run by hand too.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        revision: 1,
        sql: include_str!("v1.sql"),
    },
    Migration {
        revision: 2,
        sql: include_str!("v2.sql"),
    },
    Migration {
        revision: 3,
        sql: include_str!("v3.sql"),
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
    // By a statement: what the connection itself knows of the tables may be older than this transaction.
    let known = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'es_log_meta')";
    let revision = if tx.query_row(known, [], |row| row.get(0))? {
        tx.query_row("SELECT schema_rev FROM es_log_meta", [], |row| row.get(0))?
    } else {
        0
    };
    let steps = match missing(MIGRATIONS, revision) {
        Ok(steps) => steps,
        Err(error) => return Ok(Err(error)),
    };
    for step in steps {
        tx.execute_batch(step.sql)?;
    }
    let id = tx.query_row("SELECT log_id FROM es_log_meta", [], |row| row.get(0))?;
    Ok(Ok(Uuid::from_bytes(id)))
}

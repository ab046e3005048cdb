//! The barrier in a SQLite file. A transaction has the file for itself, so that a row it has read stays as it is.

use futures_core::future::BoxFuture;
use sagamill_eventstore::Transaction;
use sqlx::{Sqlite, query::Query, sqlite::SqliteArguments};

use super::Row;
use super::sql::{Sql, Statements, Value, decode, runs_statements, statements};

/// Times are microseconds since 1970.
pub(super) const MIGRATIONS: &str = "\
CREATE TABLE IF NOT EXISTS saga_barrier (
  effect_id    BLOB NOT NULL,
  phase        TEXT NOT NULL CHECK (phase IN ('forward', 'compensate')),
  state        TEXT NOT NULL CHECK (state IN ('started', 'done', 'rejected', 'tombstone', 'undone')),
  reply        BLOB,
  command_name TEXT NOT NULL,
  command      BLOB NOT NULL,
  definition   TEXT NOT NULL,
  saga_id      BLOB NOT NULL,
  saga_key     TEXT NOT NULL,
  step         TEXT NOT NULL,
  first_asked  INTEGER NOT NULL,
  not_after    INTEGER,
  owner        BLOB,
  lease_until  INTEGER,
  updated_at   INTEGER NOT NULL,
  PRIMARY KEY (effect_id, phase)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS saga_barrier_first_asked ON saga_barrier (first_asked);
";

impl Sql for Sqlite {
    const MIGRATIONS: &'static str = MIGRATIONS;
    const STATEMENTS: Statements = statements!("saga_barrier", "");
    runs_statements!();
}

type Statement<'a> = Query<'a, Sqlite, SqliteArguments>;

fn bind<'a>(statement: Statement<'a>, value: Value<'a>) -> Statement<'a> {
    match value {
        Value::Id(id) => statement.bind(id),
        Value::Text(text) => statement.bind(text.to_owned()),
        Value::Bytes(bytes) => statement.bind(bytes.map(<[u8]>::to_vec)),
        Value::Number(number) => statement.bind(number),
    }
}

//! The barrier in a PostgreSQL database, in the log's own schema. Two processes may be at one row: whoever has read it has
//! locked it.

use futures_core::future::BoxFuture;
use sagamill_eventstore::Transaction;
use sqlx::{Postgres, postgres::PgArguments, query::Query};

use super::Row;
use super::sql::{Sql, Statements, Value, decode, runs_statements, statements};

/// Times are microseconds since 1970. The lock is that of the log's own migrations: one process at a time makes tables. Where
/// the table is there, no right to make one is needed: another role than its owner needs `SELECT`, `INSERT`, `UPDATE` and
/// `DELETE` on it.
pub(super) const MIGRATIONS: &str = "\
SELECT pg_advisory_xact_lock(x'6573000053616761'::bigint);
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'es' AND tablename = 'saga_barrier') THEN
    CREATE TABLE es.saga_barrier (
      effect_id    uuid NOT NULL,
      phase        text NOT NULL CHECK (phase IN ('forward', 'compensate')),
      state        text NOT NULL CHECK (state IN ('started', 'done', 'rejected', 'tombstone', 'undone')),
      reply        bytea,
      command_name text NOT NULL,
      command      bytea NOT NULL,
      definition   text NOT NULL,
      saga_id      uuid NOT NULL,
      saga_key     text NOT NULL,
      step         text NOT NULL,
      first_asked  bigint NOT NULL,
      not_after    bigint,
      owner        uuid,
      lease_until  bigint,
      updated_at   bigint NOT NULL,
      PRIMARY KEY (effect_id, phase)
    );
    CREATE INDEX saga_barrier_first_asked ON es.saga_barrier (first_asked);
  END IF;
END $$;
";

impl Sql for Postgres {
    const MIGRATIONS: &'static str = MIGRATIONS;
    const STATEMENTS: Statements = statements!("es.saga_barrier", " FOR UPDATE");
    runs_statements!();
}

type Statement<'a> = Query<'a, Postgres, PgArguments>;

fn bind<'a>(statement: Statement<'a>, value: Value<'a>) -> Statement<'a> {
    match value {
        Value::Id(id) => statement.bind(id),
        Value::Text(text) => statement.bind(text),
        Value::Bytes(bytes) => statement.bind(bytes),
        Value::Number(number) => statement.bind(number),
    }
}

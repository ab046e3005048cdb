//! The barrier on SQLite: a table in the participant's own file, written through the handler's own transaction.

use std::any::Any;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use jiff::Timestamp;
use sagamill_eventstore::{EventStore, NewEvent, Transaction};
use sqlx::{Row as _, Sqlite, sqlite::SqliteRow};
use uuid::Uuid;

use super::{Barrier, Passage, Phase, Row, State};
use crate::{Error, Result};

/// Times are microseconds since 1970.
pub(crate) const MIGRATIONS: &str = "\
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

const INSERT: &str = "\
INSERT INTO saga_barrier (effect_id, phase, state, reply, command_name, command, definition, saga_id, saga_key, step,
  first_asked, not_after, owner, lease_until, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT (effect_id, phase) DO NOTHING";

const FIND: &str = "\
SELECT effect_id, phase, state, reply, command_name, command, definition, saga_id, saga_key, step, first_asked, not_after,
  owner, lease_until, updated_at
FROM saga_barrier WHERE effect_id = $1 AND phase = $2";

const UPDATE: &str = "\
UPDATE saga_barrier SET state = $3, reply = $4, owner = $5, lease_until = $6, updated_at = $7
WHERE effect_id = $1 AND phase = $2";

const REMOVE: &str = "DELETE FROM saga_barrier WHERE effect_id = $1 AND phase = $2";

const SWEEP: &str = "\
DELETE FROM saga_barrier WHERE (effect_id, phase) IN
  (SELECT effect_id, phase FROM saga_barrier WHERE first_asked < $1 AND state <> 'started' LIMIT $2)";

/// Whoever was at these effects is dead: the next ask goes on at once.
const ABANDON: &str = "UPDATE saga_barrier SET lease_until = NULL WHERE state = 'started' AND updated_at < $1";

pub(crate) struct SqliteBarrier {
    store: EventStore<Sqlite>,
}

impl SqliteBarrier {
    pub(crate) fn new(store: &EventStore<Sqlite>) -> Self {
        Self { store: store.clone() }
    }
}

impl Barrier for SqliteBarrier {
    fn migrate(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let mut tx = self.store.begin().await?;
            sqlx::raw_sql(MIGRATIONS).execute(&mut *tx).await.map_err(database)?;
            if let Some(alone_since) = self.store.alone_since() {
                let abandon = sqlx::query(ABANDON).bind(alone_since.as_microsecond());
                abandon.execute(&mut *tx).await.map_err(database)?;
            }
            Ok(tx.commit().await?)
        })
    }
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Passage>>> {
        Box::pin(async {
            let tx = Some(self.store.begin().await?);
            Ok(Box::new(SqlitePassage {
                store: self.store.clone(),
                tx,
            }) as Box<dyn Passage>)
        })
    }
    fn sweep(&self, before: Timestamp, most: u32) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let mut tx = self.store.begin().await?;
            let sweep = sqlx::query(SWEEP).bind(before.as_microsecond()).bind(most);
            let gone = sweep.execute(&mut *tx).await.map_err(database)?.rows_affected();
            tx.commit().await?;
            Ok(gone)
        })
    }
    fn transactional(&self) -> bool {
        true
    }
}

struct SqlitePassage {
    store: EventStore<Sqlite>,
    /// None while it is lent to a handler.
    tx: Option<Transaction<Sqlite>>,
}

impl SqlitePassage {
    fn tx(&mut self) -> &mut Transaction<Sqlite> {
        self.tx
            .as_mut()
            .expect("invariant: nothing is asked of a passage while its transaction is lent")
    }
    async fn execute(&mut self, sql: &'static str) -> Result<()> {
        sqlx::raw_sql(sql).execute(&mut **self.tx()).await.map_err(database)?;
        Ok(())
    }
}

impl Passage for SqlitePassage {
    fn insert<'a>(&'a mut self, row: &'a Row) -> BoxFuture<'a, Result<bool>> {
        let query = sqlx::query(INSERT)
            .bind(row.effect)
            .bind(row.phase.as_str())
            .bind(row.state.as_str())
            .bind(row.reply.as_deref())
            .bind(&row.command_name)
            .bind(&row.command[..])
            .bind(&row.definition)
            .bind(row.saga)
            .bind(&row.saga_key)
            .bind(&row.step)
            .bind(row.first_asked.as_microsecond())
            .bind(row.not_after.map(Timestamp::as_microsecond))
            .bind(row.owner)
            .bind(row.lease_until.map(Timestamp::as_microsecond))
            .bind(row.updated_at.as_microsecond());
        Box::pin(async move { Ok(query.execute(&mut **self.tx()).await.map_err(database)?.rows_affected() == 1) })
    }
    fn find(&mut self, effect: Uuid, phase: Phase) -> BoxFuture<'_, Result<Option<Row>>> {
        Box::pin(async move {
            let query = sqlx::query(FIND).bind(effect).bind(phase.as_str());
            let row = query.fetch_optional(&mut **self.tx()).await.map_err(database)?;
            row.map(|row| decode(&row)).transpose()
        })
    }
    fn update<'a>(&'a mut self, row: &'a Row) -> BoxFuture<'a, Result<()>> {
        let query = sqlx::query(UPDATE)
            .bind(row.effect)
            .bind(row.phase.as_str())
            .bind(row.state.as_str())
            .bind(row.reply.as_deref())
            .bind(row.owner)
            .bind(row.lease_until.map(Timestamp::as_microsecond))
            .bind(row.updated_at.as_microsecond());
        Box::pin(async move {
            query.execute(&mut **self.tx()).await.map_err(database)?;
            Ok(())
        })
    }
    fn remove(&mut self, effect: Uuid, phase: Phase) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let query = sqlx::query(REMOVE).bind(effect).bind(phase.as_str());
            query.execute(&mut **self.tx()).await.map_err(database)?;
            Ok(())
        })
    }
    fn stage(&mut self, effect: Uuid, reply: NewEvent) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let store = self.store.clone();
            Ok(store.stage_in(self.tx(), super::stream(effect), [reply]).await?)
        })
    }
    fn before_handler(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.execute("SAVEPOINT sagamill_handler"))
    }
    fn undo_handler(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.execute("ROLLBACK TO SAVEPOINT sagamill_handler"))
    }
    fn lend(&mut self) -> Option<Box<dyn Any + Send>> {
        self.tx.take().map(|tx| Box::new(tx) as Box<dyn Any + Send>)
    }
    fn take_back(&mut self, transaction: Box<dyn Any + Send>) -> Result<()> {
        let tx = transaction
            .downcast()
            .expect("invariant: what comes back is what was lent");
        self.tx = Some(*tx);
        Ok(())
    }
    fn commit(mut self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let tx = self
                .tx
                .take()
                .expect("invariant: nothing is asked of a passage while its transaction is lent");
            Ok(tx.commit().await?)
        })
    }
}

fn decode(row: &SqliteRow) -> Result<Row> {
    let read = || -> Result<Row, sqlx::Error> {
        let time = |name: &str| -> Result<Option<Timestamp>, sqlx::Error> {
            let at: Option<i64> = row.try_get(name)?;
            at.map(Timestamp::from_microsecond)
                .transpose()
                .map_err(|e| sqlx::Error::Decode(e.into()))
        };
        let unknown = |name: &str| sqlx::Error::Decode(format!("`{name}` is not known to this version").into());
        let (phase, state): (String, String) = (row.try_get("phase")?, row.try_get("state")?);
        Ok(Row {
            effect: row.try_get("effect_id")?,
            phase: super::phase(&phase).ok_or_else(|| unknown(&phase))?,
            state: State::parse(&state).ok_or_else(|| unknown(&state))?,
            reply: row.try_get::<Option<Vec<u8>>, _>("reply")?.map(Bytes::from),
            command_name: row.try_get("command_name")?,
            command: row.try_get::<Vec<u8>, _>("command")?.into(),
            definition: row.try_get("definition")?,
            saga: row.try_get("saga_id")?,
            saga_key: row.try_get("saga_key")?,
            step: row.try_get("step")?,
            first_asked: time("first_asked")?.unwrap_or(Timestamp::UNIX_EPOCH),
            not_after: time("not_after")?,
            owner: row.try_get("owner")?,
            lease_until: time("lease_until")?,
            updated_at: time("updated_at")?.unwrap_or(Timestamp::UNIX_EPOCH),
        })
    };
    read().map_err(database)
}

fn database(error: sqlx::Error) -> Error {
    Error::Store(sagamill_eventstore::Error::database(error))
}

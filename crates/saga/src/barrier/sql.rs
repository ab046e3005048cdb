//! The barrier in a database: a table beside the participant's own, written through the handler's own transaction. The
//! statements are the same in all of them; what differs is how each is run.

use std::any::Any;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use jiff::Timestamp;
use sagamill_eventstore::{Database, EventStore, InTransaction, NewEvent, Transaction};
use sqlx::{ColumnIndex, Decode, Type};
use uuid::Uuid;

use super::{Barrier, Passage, Phase, Row, State};
use crate::{Error, Result};

/// A database that a barrier can lie in.
pub(super) trait Sql: Database {
    /// Makes the table, where it is not there.
    const MIGRATIONS: &'static str;
    const STATEMENTS: Statements;
    /// Runs statements that are given nothing.
    fn run<'a>(tx: &'a mut Transaction<Self>, sql: &'static str) -> BoxFuture<'a, sqlx::Result<()>>
    where
        Self: Sized;
    /// How many rows it changed.
    fn execute<'a>(
        tx: &'a mut Transaction<Self>,
        sql: &'static str,
        values: Vec<Value<'a>>,
    ) -> BoxFuture<'a, sqlx::Result<u64>>
    where
        Self: Sized;
    /// The row that it finds.
    fn find<'a>(
        tx: &'a mut Transaction<Self>,
        sql: &'static str,
        values: Vec<Value<'a>>,
    ) -> BoxFuture<'a, sqlx::Result<Option<Row>>>
    where
        Self: Sized;
}

/// What a statement is given. Times are microseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Id(Option<Uuid>),
    Text(&'a str),
    Bytes(Option<&'a [u8]>),
    Number(Option<i64>),
}

/// The statements over a table of this name.
pub(super) struct Statements {
    insert: &'static str,
    find: &'static str,
    update: &'static str,
    remove: &'static str,
    sweep: &'static str,
    abandon: &'static str,
}

/// `$lock` makes a row that was found stay as it is, where a transaction does not do that by itself.
macro_rules! statements {
    ($table:literal, $lock:literal) => {
        $crate::barrier::sql::Statements::new([
            // What is there already is read by a statement of its own: only that sees what another transaction has committed
            // while this one waited for it.
            concat!(
                "INSERT INTO ",
                $table,
                " (effect_id, phase, state, reply, command_name, command, definition, saga_id, saga_key, step, first_asked, \
                 not_after, owner, lease_until, updated_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
                 ON CONFLICT (effect_id, phase) DO NOTHING"
            ),
            concat!(
                "SELECT effect_id, phase, state, reply, command_name, command, definition, saga_id, saga_key, step, \
                 first_asked, not_after, owner, lease_until, updated_at FROM ",
                $table,
                " WHERE effect_id = $1 AND phase = $2",
                $lock
            ),
            concat!(
                "UPDATE ",
                $table,
                " SET state = $3, reply = $4, owner = $5, lease_until = $6, updated_at = $7 \
                 WHERE effect_id = $1 AND phase = $2"
            ),
            concat!("DELETE FROM ", $table, " WHERE effect_id = $1 AND phase = $2"),
            concat!(
                "DELETE FROM ",
                $table,
                " WHERE (effect_id, phase) IN (SELECT effect_id, phase FROM ",
                $table,
                " WHERE first_asked < $1 AND state <> 'started' LIMIT $2)"
            ),
            concat!(
                "UPDATE ",
                $table,
                " SET lease_until = NULL WHERE state = 'started' AND updated_at < $1"
            ),
        ])
    };
}
pub(super) use statements;

impl Statements {
    pub(super) const fn new([insert, find, update, remove, sweep, abandon]: [&'static str; 6]) -> Self {
        Self {
            insert,
            find,
            update,
            remove,
            sweep,
            abandon,
        }
    }
}

pub(super) struct SqlBarrier<D: Database> {
    store: EventStore<D>,
}

impl<D: Sql> SqlBarrier<D> {
    pub(super) fn new(store: EventStore<D>) -> Self {
        Self { store }
    }
    async fn passage(&self) -> Result<SqlPassage<D>> {
        Ok(SqlPassage {
            store: self.store.clone(),
            tx: Some(self.store.begin().await?),
        })
    }
}

impl<D: Sql> Barrier for SqlBarrier<D> {
    fn migrate(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let mut passage = self.passage().await?;
            passage.run(D::MIGRATIONS).await?;
            if let Some(alone_since) = self.store.alone_since() {
                // Whoever was at these effects is dead: the next ask goes on at once.
                let before = vec![Value::Number(Some(alone_since.as_microsecond()))];
                passage.execute(D::STATEMENTS.abandon, before).await?;
            }
            Box::new(passage).commit().await
        })
    }
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Passage>>> {
        Box::pin(async { Ok(Box::new(self.passage().await?) as Box<dyn Passage>) })
    }
    fn sweep(&self, before: Timestamp, most: u32) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let mut passage = self.passage().await?;
            let (before, most) = (before.as_microsecond(), i64::from(most));
            let values = vec![Value::Number(Some(before)), Value::Number(Some(most))];
            let gone = passage.execute(D::STATEMENTS.sweep, values).await?;
            Box::new(passage).commit().await?;
            Ok(gone)
        })
    }
    fn transactional(&self) -> bool {
        true
    }
}

/// Broken, the transaction is with a handler.
const LENT: &str = "invariant: nothing is asked of a passage while its transaction is lent";

struct SqlPassage<D: Database> {
    store: EventStore<D>,
    /// None while it is lent to a handler.
    tx: Option<Transaction<D>>,
}

impl<D: Sql> SqlPassage<D> {
    fn tx(&mut self) -> &mut Transaction<D> {
        self.tx.as_mut().expect(LENT)
    }
    fn into_tx(self) -> Transaction<D> {
        self.tx.expect(LENT)
    }
    async fn run(&mut self, sql: &'static str) -> Result<()> {
        let tx = self.tx();
        let ran = D::run(tx, sql).await;
        well(tx, ran)
    }
    async fn execute(&mut self, sql: &'static str, values: Vec<Value<'_>>) -> Result<u64> {
        let tx = self.tx();
        let changed = D::execute(tx, sql, values).await;
        well(tx, changed)
    }
}

/// The transaction goes on where a statement has been executed, and its commit need not ask whether.
fn well<D: Database, T>(tx: &mut Transaction<D>, done: sqlx::Result<T>) -> Result<T> {
    let done = done.map_err(|error| Error::Store(D::error(error, false)))?;
    tx.is_well();
    Ok(done)
}

impl<D: Sql> Passage for SqlPassage<D> {
    fn insert<'a>(&'a mut self, row: &'a Row) -> BoxFuture<'a, Result<bool>> {
        let values = vec![
            Value::Id(Some(row.effect)),
            Value::Text(row.phase.as_str()),
            Value::Text(row.state.as_str()),
            Value::Bytes(row.reply.as_deref()),
            Value::Text(&row.command_name),
            Value::Bytes(Some(&row.command)),
            Value::Text(&row.definition),
            Value::Id(Some(row.saga)),
            Value::Text(&row.saga_key),
            Value::Text(&row.step),
            Value::Number(Some(row.first_asked.as_microsecond())),
            Value::Number(row.not_after.map(Timestamp::as_microsecond)),
            Value::Id(row.owner),
            Value::Number(row.lease_until.map(Timestamp::as_microsecond)),
            Value::Number(Some(row.updated_at.as_microsecond())),
        ];
        Box::pin(async move { Ok(self.execute(D::STATEMENTS.insert, values).await? == 1) })
    }
    fn find(&mut self, effect: Uuid, phase: Phase) -> BoxFuture<'_, Result<Option<Row>>> {
        Box::pin(async move {
            let values = vec![Value::Id(Some(effect)), Value::Text(phase.as_str())];
            let tx = self.tx();
            let found = D::find(tx, D::STATEMENTS.find, values).await;
            well(tx, found)
        })
    }
    fn update<'a>(&'a mut self, row: &'a Row) -> BoxFuture<'a, Result<()>> {
        let values = vec![
            Value::Id(Some(row.effect)),
            Value::Text(row.phase.as_str()),
            Value::Text(row.state.as_str()),
            Value::Bytes(row.reply.as_deref()),
            Value::Id(row.owner),
            Value::Number(row.lease_until.map(Timestamp::as_microsecond)),
            Value::Number(Some(row.updated_at.as_microsecond())),
        ];
        Box::pin(async move { self.execute(D::STATEMENTS.update, values).await.map(drop) })
    }
    fn remove(&mut self, effect: Uuid, phase: Phase) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let values = vec![Value::Id(Some(effect)), Value::Text(phase.as_str())];
            self.execute(D::STATEMENTS.remove, values).await.map(drop)
        })
    }
    fn stage(&mut self, effect: Uuid, reply: NewEvent) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let store = self.store.clone();
            Ok(store.stage_in(self.tx(), super::stream(effect), [reply]).await?)
        })
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
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { Ok(self.into_tx().commit().await?) })
    }
    fn rollback(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { Ok(self.into_tx().rollback().await?) })
    }
}

/// A row of the table.
pub(super) fn decode<R: sqlx::Row>(row: &R) -> sqlx::Result<Row>
where
    for<'n> &'n str: ColumnIndex<R>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Uuid: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    let time = |name: &str| -> sqlx::Result<Option<Timestamp>> {
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
}

/// How a database runs the statements: the same words, but other types.
macro_rules! runs_statements {
    () => {
        fn run<'a>(tx: &'a mut Transaction<Self>, sql: &'static str) -> BoxFuture<'a, sqlx::Result<()>> {
            Box::pin(async move { sqlx::raw_sql(sql).execute(&mut **tx).await.map(drop) })
        }
        fn execute<'a>(
            tx: &'a mut Transaction<Self>,
            sql: &'static str,
            values: Vec<Value<'a>>,
        ) -> BoxFuture<'a, sqlx::Result<u64>> {
            Box::pin(async move {
                let query = values.into_iter().fold(sqlx::query(sql), bind);
                Ok(query.execute(&mut **tx).await?.rows_affected())
            })
        }
        fn find<'a>(
            tx: &'a mut Transaction<Self>,
            sql: &'static str,
            values: Vec<Value<'a>>,
        ) -> BoxFuture<'a, sqlx::Result<Option<Row>>> {
            Box::pin(async move {
                let query = values.into_iter().fold(sqlx::query(sql), bind);
                let row = query.fetch_optional(&mut **tx).await?;
                row.map(|row| decode(&row)).transpose()
            })
        }
    };
}
pub(super) use runs_statements;

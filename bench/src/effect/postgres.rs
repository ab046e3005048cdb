//! Effects in a PostgreSQL database.

use anyhow::Context as _;
use sagamill::eventstore::EventStore;
use sqlx::{
    PgConnection, Postgres,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use super::{Done, Effects, Engine, PAYLOAD};
use crate::{case::Setting, measure::Sample, postgres::database::Database};

const TABLES: &str = "CREATE TABLE effect (id uuid PRIMARY KEY, payload bytea NOT NULL)";
const INSERT: &str = "INSERT INTO effect (id, payload) VALUES ($1, $2) ON CONFLICT DO NOTHING";

impl Engine for Postgres {
    type Home = Database;
    const IS_SERVER: bool = true;

    fn home(setting: &Setting) -> Done<'_, Database> {
        Box::pin(Database::create(setting))
    }
    fn open(home: &Database, connections: u32) -> Done<'_, Effects<Self>> {
        Box::pin(async move {
            let effects = Effects::attach(home.url(), connections).await?;
            let pool = effects.store().pool();
            let barrier = sagamill::saga::migrations("postgres").context("there is a barrier on PostgreSQL")?;
            sqlx::raw_sql(barrier).execute(pool).await?;
            sqlx::raw_sql(TABLES).execute(pool).await?;
            home.begin().await?;
            Ok(effects)
        })
    }
    fn insert(connection: &mut PgConnection, id: Uuid) -> Done<'_> {
        Box::pin(async move {
            sqlx::query(INSERT).bind(id).bind(PAYLOAD).execute(connection).await?;
            Ok(())
        })
    }
    fn alone(effects: Effects<Self>, id: Uuid) -> Done<'static> {
        Box::pin(async move {
            let pool = effects.store().pool();
            sqlx::query(INSERT).bind(id).bind(PAYLOAD).execute(pool).await?;
            Ok(())
        })
    }
    fn bare(effects: Effects<Self>, id: Uuid) -> Done<'static> {
        Box::pin(async move {
            let mut tx = effects.store().pool().begin().await?;
            Self::insert(&mut tx, id).await?;
            Ok(tx.commit().await?)
        })
    }
    fn barred(effects: Effects<Self>, id: Uuid) -> Done<'static> {
        Box::pin(async move {
            let mut tx = effects.store().pool().begin().await?;
            bar(&mut tx, id).await?;
            Self::insert(&mut tx, id).await?;
            Ok(tx.commit().await?)
        })
    }
    fn count(effects: &Effects<Self>) -> Done<'_, i64> {
        Box::pin(async {
            let count = sqlx::query_scalar("SELECT count(*) FROM effect");
            Ok(count.fetch_one(effects.store().pool()).await?)
        })
    }
    fn costs(home: &Database, sample: Sample, sagas: i64) -> Done<'_, Sample> {
        Box::pin(home.costs(sample, sagas))
    }
    fn leave(home: Database) -> Done<'static> {
        Box::pin(home.remove())
    }
}

impl Effects<Postgres> {
    /// Opens a database whose tables are made by somebody.
    pub(crate) async fn attach(url: &str, connections: u32) -> anyhow::Result<Self> {
        let options: PgConnectOptions = url.parse()?;
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            // As the store's own pool has it: a round trip less for each transaction, on both sides.
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        Ok(Self::new(EventStore::open(pool).await?))
    }
}

async fn bar(connection: &mut PgConnection, id: Uuid) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO es.saga_barrier (effect_id, phase, state, reply, command_name, command, definition, saga_id, saga_key,
           step, first_asked, updated_at)
         VALUES ($1, 'forward', 'done', $2, 'bench.work', $3, 'bench', $1, '1-1', 'reserve', 1, 1)",
    )
    .bind(id)
    .bind(&b"null"[..])
    .bind(&b"{\"number\":1}"[..])
    .execute(connection)
    .await?;
    Ok(())
}

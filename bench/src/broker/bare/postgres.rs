//! sqlx: a row a message, read by pages behind a checkpoint. A page ends where a transaction is still open, or a message that
//! is committed late would be passed over.

use std::{ops::ControlFlow, time::Duration};

use anyhow::Context as _;
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::super::{
    message::Numbered,
    way::{Bare, Load, Receive, Way},
};

/// Connections: as many publishers share a commit's flush.
const CONNECTIONS: u32 = 32;
/// Between two looks where nothing has come.
const POLL: Duration = Duration::from_millis(5);

const TABLES: &str = "
    CREATE TABLE message (
        tx xid8 NOT NULL DEFAULT pg_current_xact_id(), id bigint GENERATED ALWAYS AS IDENTITY,
        key text NOT NULL, payload bytea NOT NULL, PRIMARY KEY (tx, id));
    CREATE TABLE checkpoint (tx xid8 NOT NULL, id bigint NOT NULL);
    INSERT INTO checkpoint VALUES ('0', 0)";
const INSERT: &str = "INSERT INTO message (key, payload) VALUES ($1, $2)";
const INSERT_ALL: &str = "INSERT INTO message (key, payload) SELECT * FROM UNNEST($1::text[], $2::bytea[])";
const PAGE: &str = "SELECT tx::text::bigint, id, payload FROM message
    WHERE (tx, id) > ($1::text::xid8, $2) AND tx < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY tx, id LIMIT 1000";
const SAVE: &str = "UPDATE checkpoint SET tx = $1::text::xid8, id = $2";

/// A database with the two tables.
#[derive(Debug, Clone)]
pub(crate) struct Postgres(PgPool);

impl Way for Postgres {
    async fn open(url: &str, load: Load) -> anyhow::Result<Self> {
        let connections = if load == Load::One { 1 } else { CONNECTIONS };
        let options = PgPoolOptions::new()
            .max_connections(connections)
            .test_before_acquire(false);
        let pool = options.connect(url).await?;
        sqlx::raw_sql(TABLES).execute(&pool).await?;
        Ok(Self(pool))
    }
    async fn publish(&self, message: Numbered) -> anyhow::Result<()> {
        let insert = sqlx::query(INSERT).bind(message.key()).bind(message.payload);
        insert.execute(&self.0).await?;
        Ok(())
    }
    async fn publish_all(&self, batch: Vec<Numbered>) -> anyhow::Result<()> {
        let (keys, payloads): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|message| (message.key(), message.payload))
            .unzip();
        let insert = sqlx::query(INSERT_ALL).bind(keys).bind(payloads);
        insert.execute(&self.0).await?;
        Ok(())
    }
    async fn consume(&self, mut receive: impl Receive) -> anyhow::Result<()> {
        let mut connection = self.0.acquire().await?;
        let (mut tx, mut id) = (0, 0);
        let mut more = ControlFlow::Continue(());
        while more.is_continue() {
            let page = sqlx::query_as(PAGE).bind(tx.to_string()).bind(id);
            let page: Vec<(i64, i64, Vec<u8>)> = page.fetch_all(&mut *connection).await?;
            if page.is_empty() {
                tokio::time::sleep(POLL).await;
                continue;
            }
            for (_, _, payload) in &page {
                more = receive(payload)?;
            }
            (tx, id, _) = page.into_iter().next_back().context("invariant: it is not empty")?;
            let save = sqlx::query(SAVE).bind(tx.to_string()).bind(id);
            save.execute(&mut *connection).await?;
        }
        Ok(())
    }
    async fn close(self) -> anyhow::Result<()> {
        self.0.close().await;
        Ok(())
    }
}

impl Bare for Postgres {
    const PUBLISH: &'static str = "sqlx, an INSERT and its commit for each message, on 32 connections at most";
    const BATCH: &'static str = "sqlx, one INSERT of 1,000 rows";
    const CONSUME: &'static str = "sqlx, pages of 1,000, a checkpoint after each; polled each 5 ms where nothing comes";
    const READ_PER_SECOND: f64 = 30_000.0;
}

//! A database for one round, and what the round costs it.

use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use super::relay::Relay;
use crate::{
    case::Setting,
    measure::{self, Sample},
};

/// How often the server is asked whether everybody has left.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub(crate) struct Database {
    setting: Setting,
    name: String,
    url: String,
    /// None: nobody looks at the way.
    relay: Option<Relay>,
    begun: Mutex<Option<Counts>>,
}

/// What the server has counted so far, of all databases: nobody else is on it.
#[derive(Debug, Clone, Copy)]
struct Counts {
    /// Transactions that wrote: those that were given an id, and subtransactions.
    writing: i64,
    /// Where its log of changes has come to.
    wal: i64,
    /// Statements that were sent and answered; 0 where nobody looks.
    round_trips: u64,
}

impl Database {
    /// A new one, empty.
    pub(crate) async fn create(setting: &Setting) -> anyhow::Result<Self> {
        let server = setting.server()?;
        let name = format!("bench_{}", Uuid::now_v7().simple());
        let mut connection = PgConnection::connect(server.url()).await?;
        let create = format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await?;
        connection.close().await?;
        let direct = on_database(server.url(), &name)?;
        let relay = match setting.is_watched {
            true => Some(Relay::start(&direct).await?),
            false => None,
        };
        Ok(Self {
            url: relay.as_ref().map_or(direct, |relay| relay.url().to_owned()),
            setting: setting.clone(),
            name,
            relay,
            begun: Mutex::default(),
        })
    }
    /// How it is reached in this round.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
    /// All is made: what there is to write is written, and costs count from here on.
    pub(crate) async fn begin(&self) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(self.setting.server()?.url()).await?;
        sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await?;
        let counts = self.counts(&mut connection).await?;
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(counts);
        connection.close().await?;
        measure::begin(&self.setting);
        Ok(())
    }
    /// Adds what so many sagas have cost since.
    pub(crate) async fn costs(&self, sample: Sample, sagas: i64) -> anyhow::Result<Sample> {
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = begun.context("costs are counted from a beginning")?;
        let mut connection = PgConnection::connect(self.setting.server()?.url()).await?;
        let now = self.counts(&mut connection).await?;
        connection.close().await?;
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let each = |all: i64| all as f64 / sagas.max(1) as f64;
        let sample = sample
            .with("commits_per_saga", each(now.writing - begun.writing))
            .with("wal_bytes_per_saga", each(now.wal - begun.wal));
        if self.relay.is_none() {
            return Ok(sample);
        }
        let round_trips = (now.round_trips - begun.round_trips).cast_signed();
        Ok(sample.with("round_trips_per_saga", each(round_trips)))
    }
    /// Ends it, whoever is still on it.
    pub(crate) async fn remove(self) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(self.setting.server()?.url()).await?;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }
    /// Waits until nobody is on it.
    pub(crate) async fn left(&self) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(self.setting.server()?.url()).await?;
        let others = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1)";
        while sqlx::query_scalar(others)
            .bind(&self.name)
            .fetch_one(&mut connection)
            .await?
        {
            tokio::time::sleep(LOOK).await;
        }
        Ok(connection.close().await?)
    }

    async fn counts(&self, connection: &mut PgConnection) -> anyhow::Result<Counts> {
        let counts = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
            pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        let (writing, wal) = sqlx::query_as(counts).fetch_one(connection).await?;
        Ok(Counts {
            writing,
            wal,
            round_trips: self.relay.as_ref().map_or(0, Relay::round_trips),
        })
    }
}

/// The server's URL with another database.
fn on_database(url: &str, name: &str) -> anyhow::Result<String> {
    let (url, query) = url
        .split_once('?')
        .map_or((url, None), |(url, query)| (url, Some(query)));
    let (server, _) = url.rsplit_once('/').context("the server's URL names no database")?;
    Ok(match query {
        Some(query) => format!("{server}/{name}?{query}"),
        None => format!("{server}/{name}"),
    })
}

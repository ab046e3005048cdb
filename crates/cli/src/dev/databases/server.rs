//! The shop's databases on a PostgreSQL server.

use std::{fmt, time::Duration};

use anyhow::{Context, anyhow};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    failure::{Code, Failure},
    source::{Server, database},
};

/// Who has a database of each name on the server.
const SERVICES: [&str; 5] = ["order", "inventory", "payment", "provider", "shipping"];
/// Under which lock of the order database the one process stands that has all of them.
const LOCK: i64 = i64::from_be_bytes(*b"sagamill");
/// How often it is tried: the server may still be seeing off a process that was killed.
const TRIES: u32 = 50;

/// The databases on a server, reserved for this process.
pub(crate) struct Reserved {
    server: Server,
    /// Holds the lock.
    _session: PgConnection,
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reserved").field(&self.server).finish()
    }
}
impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (databases {}…)", self.server, database(""))
    }
}

impl Reserved {
    /// Makes the databases where they are missing, and reserves them.
    pub(crate) async fn open(server: &Server) -> Result<Self, Failure> {
        let unavailable = |error: anyhow::Error| Failure::new(Code::Unavailable, error);
        make(server)
            .await
            .with_context(|| format!("cannot make the databases on {server}"))
            .map_err(unavailable)?;
        let mut session = PgConnection::connect(&server.url("order"))
            .await
            .with_context(|| format!("cannot reach {server}"))
            .map_err(unavailable)?;
        for _ in 0..TRIES {
            let locked: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
                .bind(LOCK)
                .fetch_one(&mut session)
                .await?;
            if locked {
                return Ok(Self {
                    server: server.clone(),
                    _session: session,
                });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Failure::new(
            Code::Conflict,
            anyhow!("another process runs on {server}"),
        ))
    }
    pub(super) fn url(&self, service: &str) -> String {
        self.server.url(service)
    }
}

async fn make(server: &Server) -> anyhow::Result<()> {
    let mut maintenance = PgConnection::connect(&server.maintenance()).await?;
    for name in SERVICES.map(database) {
        let there: bool = sqlx::query_scalar("select exists (select 1 from pg_database where datname = $1)")
            .bind(&name)
            .fetch_one(&mut maintenance)
            .await?;
        if !there {
            // The name is one of our own, so that it needs no quoting.
            let create = format!("create database {name}");
            sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut maintenance).await?;
        }
    }
    maintenance.close().await?;
    Ok(())
}

//! How this store's own connections are made.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

use super::{failure, presence::Presence};
use crate::{Error, Result};

/// How long a server may take to answer that it takes a connection.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a pooler that has no second server connection is waited for.
const POOLED: Duration = Duration::from_secs(2);
/// The shortest pause before another try, doubled with each one.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Statements that stay prepared on a connection: more than the store has.
const STATEMENTS: usize = 100;

/// See the module.
pub(super) struct Connector {
    options: PgConnectOptions,
    presence: Presence,
    /// A pooler gives each transaction another server connection: nothing may be set on one, and none can be listened on.
    is_pooled: AtomicBool,
}

impl Connector {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        // Statements are the store's own and always the same; what is slow among them says so itself.
        let options = options.statement_cache_capacity(STATEMENTS).disable_statement_logging();
        Self {
            options,
            presence: Presence::new(),
            is_pooled: AtomicBool::new(false),
        }
    }
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }
    pub(super) fn is_pooled(&self) -> bool {
        self.is_pooled.load(Ordering::Relaxed)
    }
    /// How the store is known to be there; none through a pooler, where sessions are not its own.
    pub(super) fn presence(&self) -> Option<Presence> {
        (!self.is_pooled()).then_some(self.presence)
    }
    /// Who is asked, and where.
    pub(super) fn shown(&self) -> String {
        failure::shown(&self.options)
    }

    /// # Errors
    /// [`Error::Unavailable`] where no server answers, [`Error::Unusable`] where it says no.
    pub(super) async fn connect(&self) -> Result<PgConnection> {
        let mut connection = self.connect_as_it_is().await?;
        self.set_up(&mut connection)
            .await
            .map_err(|error| failure::of_connect(error, &self.options))?;
        Ok(connection)
    }
    /// Makes a session one of this store's. An append needs its isolation, whatever the role's default is.
    pub(super) async fn set_up(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        if let Some(presence) = self.presence() {
            let hold = presence.hold();
            let set = format!("SET default_transaction_isolation = 'read committed'; {hold}");
            sqlx::raw_sql(AssertSqlSafe(set)).execute(connection).await?;
        }
        Ok(())
    }
    async fn connect_as_it_is(&self) -> Result<PgConnection> {
        match tokio::time::timeout(ANSWER, PgConnection::connect_with(&self.options)).await {
            Ok(connected) => connected.map_err(|error| failure::of_connect(error, &self.options)),
            Err(_) => Err(Error::Unavailable {
                what: format!("`{}`: no answer within {ANSWER:?}", self.shown()),
            }),
        }
    }

    /// The first connections, and by them whether a pooler stands between: while the second has a transaction open, the first
    /// is answered by another server connection than before.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); [`Error::Unusable`] where the pooler loses prepared statements.
    pub(super) async fn first(&self) -> Result<[PgConnection; 2]> {
        let (mut one, mut two) = (self.connect_as_it_is().await?, self.connect_as_it_is().await?);
        let failed = |error| failure::of_connect(error, &self.options);
        let before = backend(&mut one).await.map_err(failed)?;
        sqlx::raw_sql("BEGIN").execute(&mut two).await.map_err(failed)?;
        let after = tokio::time::timeout(POOLED, backend(&mut one)).await;
        // One that waits for the other's server connection is in its midst: it cannot be used again.
        let is_pooled = after.is_err();
        let after = after.unwrap_or(Ok(before)).map_err(failed)?;
        sqlx::raw_sql("ROLLBACK").execute(&mut two).await.map_err(failed)?;
        if is_pooled {
            one = self.connect_as_it_is().await?;
        }
        if is_pooled || before != after {
            tracing::info!(server = %self.shown(), "a pooler in transaction mode stands between: the log is looked at now and then, for nobody can be told of appends through it");
            self.is_pooled.store(true, Ordering::Relaxed);
        } else {
            for connection in [&mut one, &mut two] {
                self.set_up(connection).await.map_err(failed)?;
            }
        }
        Ok([one, two])
    }
}

async fn backend(connection: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(connection)
        .await
}

/// Growing pauses between tries, each another one for each process, so that a server that comes back is not met by all of
/// them at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let pause = (PAUSE * 2_u32.pow(self.tries.min(16))).min(PAUSE_MAX);
        self.tries += 1;
        // Half of it, and up to half of it more.
        let chance = (Uuid::new_v4().as_u128() & 0xff) as u32;
        pause / 2 + pause / 2 * chance / 255
    }
}

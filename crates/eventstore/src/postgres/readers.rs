//! Connections that read, and write small things down.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{Connection, PgConnection};
use tokio::sync::Semaphore;

use super::{connector::Connector, failure};
use crate::{Error, Result};

/// Most connections of one store for this; each does one job at a time. They are made when they are needed.
const READERS: usize = 6;
/// How long a job may take: a page of a log at the end of a slow line, a row that somebody has locked.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that comes back, with what was done on it.
pub(super) type Done<T> = (PgConnection, sqlx::Result<T>);

/// See the module.
pub(super) struct Readers {
    connector: Arc<Connector>,
    idle: Mutex<Vec<PgConnection>>,
    permits: Semaphore,
}

impl Readers {
    pub(super) fn new(connector: Arc<Connector>, first: impl IntoIterator<Item = PgConnection>) -> Self {
        Self {
            connector,
            idle: Mutex::new(first.into_iter().collect()),
            permits: Semaphore::new(READERS),
        }
    }

    /// Has a job done, which may be done twice: where a connection was lost that had been idle, it is asked for once more on
    /// a new one. Dropped while it waits, the job may still be done.
    ///
    /// A job gives its connection back with what it came to: dropped in its midst, it takes the connection with it.
    pub(super) async fn run<T, F>(&self, job: impl Fn(PgConnection) -> F) -> Result<T>
    where
        F: Future<Output = Done<T>>,
    {
        let _permit = self.permits.acquire().await.map_err(|_| Error::ShutDown)?;
        let idle = self.idle().pop();
        if let Some(connection) = idle {
            match self.attempt(job(connection)).await {
                Err(error) if failure::is_lost(&error) => {
                    // Those that were idle beside it are as stale.
                    self.idle().clear();
                    tracing::debug!(%error, "a connection was lost; the next one is asked");
                }
                done => return done.map_err(failure::of),
            }
        }
        let connection = self.connector.connect().await?;
        self.attempt(job(connection)).await.map_err(failure::of)
    }
    async fn attempt<T>(&self, job: impl Future<Output = Done<T>>) -> sqlx::Result<T> {
        let late = |_| {
            let what = format!("no answer within {PATIENCE:?}");
            sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
        };
        let (connection, done) = tokio::time::timeout(PATIENCE, job).await.map_err(late)?;
        let is_good = |error: &sqlx::Error| !failure::is_lost(error) && !failure::is_stale(error);
        if done.as_ref().err().is_none_or(is_good) {
            self.idle().push(connection);
        }
        done
    }
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<PgConnection>> {
        // Every change leaves it whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no job any more, and says goodbye to the server.
    pub(super) async fn close(&self) {
        let all = self.permits.acquire_many(READERS as u32).await;
        self.permits.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            // A connection that cannot be closed well is closed all the same.
            let _ = connection.close().await;
        }
    }
}

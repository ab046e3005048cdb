//! The server that is measured: one of this run's own, or the one that the environment names. Durable, or it is refused.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use sagamill_testkit::postgres::{Own, URL};
use sqlx::{Connection as _, PgConnection};

use super::processor::Processes;

/// What a commit must wait for, whatever a server of tests is started with.
const DURABLE: [(&str, &str); 3] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
];
/// Room, so that a round is not disturbed by what the round before has left to write.
const ROOM: [(&str, &str); 5] = [
    ("shared_buffers", "1GB"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "30min"),
    ("maintenance_work_mem", "512MB"),
    ("jit", "off"),
];

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    url: Arc<str>,
    processes: Arc<Option<Processes>>,
    /// Ends with the last of these; none: it is somebody else's.
    _own: Option<Arc<Own>>,
}

impl Server {
    /// Finds or starts it, and says what it is on standard error.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let (url, own) = if let Ok(url) = std::env::var(URL) {
            (url, None)
        } else {
            let settings: Vec<_> = DURABLE.into_iter().chain(ROOM).collect();
            let own = Own::start(&settings).await?;
            (own.url().to_owned(), Some(Arc::new(own)))
        };
        let mut connection = PgConnection::connect(&url).await?;
        check(&mut connection).await?;
        let about: String = sqlx::query_scalar(
            "SELECT 'PostgreSQL ' || current_setting('server_version') || ', shared_buffers ' || current_setting('shared_buffers')
               || ', max_wal_size ' || current_setting('max_wal_size') || ', wal_sync_method ' || current_setting('wal_sync_method')",
        )
        .fetch_one(&mut connection)
        .await?;
        let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut connection)
            .await?;
        let processes = Processes::of_backend(backend);
        let seen = if processes.is_some() {
            "included in"
        } else {
            "not included in"
        };
        eprintln!("{about}, fsync and synchronous_commit on; its processes are {seen} processor time");
        connection.close().await?;
        Ok(Self {
            url: url.into(),
            processes: Arc::new(processes),
            _own: own,
        })
    }
    /// The URL of its own database.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
    /// What it has taken of the processors; nothing where it is not on this machine.
    pub(crate) fn processor_time(&self) -> std::time::Duration {
        self.processes
            .as_ref()
            .as_ref()
            .map(Processes::time)
            .unwrap_or_default()
    }
}

/// # Errors
/// Where a commit does not wait for the disk: its figures would say nothing.
async fn check(connection: &mut PgConnection) -> anyhow::Result<()> {
    for (name, wanted) in DURABLE {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(&mut *connection)
            .await
            .with_context(|| format!("no setting `{name}`"))?;
        ensure!(
            value == wanted,
            "the server has {name} = {value}; measure one with {wanted}"
        );
    }
    Ok(())
}

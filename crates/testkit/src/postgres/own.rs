//! A server of one test's own, which it may crash.

use super::{Database, Server, Standby, database::Upkeep, shared::installation};
use crate::{
    Result,
    blocking::{Handle, blocking},
    left_out::unless_missing,
};

/// A PostgreSQL of one test's own: stopped, crashed, made to stand still, copied to a standby. It goes when this is dropped,
/// and when the process dies, however.
///
/// Whatever is begun is done to its end, also where the future is dropped; one thing is done after the other. None of it
/// blocks the runtime: what the test runs meets the fault while it happens.
#[derive(Debug)]
pub struct Own {
    server: Handle<Server>,
    url: String,
}

/// A server of the test's own; none: this machine has no PostgreSQL to run, and the test is left out.
///
/// It takes half a second; tests that only need a database share [one server](super::shared).
///
/// # Panics
///
/// Where [`TESTS`](crate::TESTS) asks for all tests and there is no server, or where there is one that does not work.
pub async fn own() -> Option<Own> {
    unless_missing(Own::start(&[]).await)
}

impl Own {
    /// Starts one with these settings of `postgresql.conf`, each a name and a value.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`](crate::Error::Missing) with the command that gets one;
    /// [`Error::Start`](crate::Error::Start) with the server's log.
    pub async fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let installation = installation().await?;
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let server = blocking(move || {
            let settings: Vec<_> = settings
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            installation.start(&settings)
        });
        Ok(Self::of(server.await?))
    }
    fn of(server: Server) -> Self {
        Self {
            url: server.url(),
            server: Handle::new(server),
        }
    }
    /// The URL of the server's own database, as the superuser. It stays the same over restarts.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
    /// A new database. Its name begins with the one given, of letters, digits and `_`.
    ///
    /// # Errors
    ///
    /// [`Error::Name`](crate::Error::Name); [`Error::Sql`](crate::Error::Sql) where the server does not answer.
    pub async fn database(&self, name: &str) -> Result<Database> {
        Database::create(&self.url, name, Upkeep::OfServer).await
    }
    /// Ends it in order: sessions are cut, what is committed is flushed.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it does not run.
    pub async fn stop(&self) -> Result<()> {
        self.server.with(Server::stop).await
    }
    /// Ends all its processes with `SIGKILL`, as a crash of its machine would, but that the system's buffers survive.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it does not run.
    pub async fn kill(&self) -> Result<()> {
        self.server.with(Server::kill).await
    }
    /// Starts it again after a stop or a crash, on the same port and data, and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it runs; [`Error::Start`](crate::Error::Start) with its log.
    pub async fn restart(&self) -> Result<()> {
        self.server.with(Server::start).await
    }
    /// Lets all its processes stand still: connections stay open, new ones are taken by the system, and nothing answers.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it does not run.
    pub async fn pause(&self) -> Result<()> {
        self.server.with(Server::pause).await
    }
    /// Lets them go on.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where it is not paused.
    pub async fn resume(&self) -> Result<()> {
        self.server.with(Server::resume).await
    }
    /// A streaming, asynchronous standby, which has all that is committed by now.
    ///
    /// # Errors
    ///
    /// [`Error::State`](crate::Error::State) where this server does not run;
    /// [`Error::Start`](crate::Error::Start) with the standby's log.
    pub async fn standby(&self) -> Result<Standby> {
        let standby = self.server.with(|server| server.standby()).await?;
        Standby::follow(Self::of(standby), &self.url).await
    }
    /// What the server has said so far, for a test that fails to show.
    pub async fn log(&self) -> String {
        self.server.with(|server| server.log()).await
    }
}

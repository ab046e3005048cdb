//! Brokers as tests see them: one that they share, and one of a test's own, which it may crash.

use std::{env, sync::OnceLock};

use super::Server;
use crate::{
    Error, Missing, Result,
    blocking::{Handle, blocking},
    left_out::unless_missing,
};

/// A broker of one test's own: stopped, crashed, made to stand still. It goes when this is dropped, and when the process dies.
///
/// Whatever is begun is done to its end, also where the future is dropped. None of it blocks the runtime: what the test runs
/// meets the fault while it happens.
#[derive(Debug, Clone)]
pub struct Own {
    server: Handle<Server>,
    url: String,
}

/// The brokers of one kind that this process has.
#[derive(Debug)]
pub(crate) struct Brokers<I> {
    /// The environment variable with the URL of one that tests share.
    url: &'static str,
    find: fn() -> Result<I, Missing>,
    start: fn(&I) -> Result<Server>,
    /// What this machine has; looked for once.
    installation: OnceLock<Result<I, Missing>>,
    /// One for all tests of this process. Nobody drops it; it ends with the process.
    shared: OnceLock<Result<Server>>,
}

impl<I: Clone + Send + Sync> Brokers<I> {
    pub(crate) const fn new(
        url: &'static str,
        find: fn() -> Result<I, Missing>,
        start: fn(&I) -> Result<Server>,
    ) -> Self {
        Self {
            url,
            find,
            start,
            installation: OnceLock::new(),
            shared: OnceLock::new(),
        }
    }
    pub(crate) async fn own(&'static self) -> Option<Own> {
        unless_missing(self.start_own().await)
    }
    pub(crate) async fn shared(&'static self) -> Option<String> {
        match env::var(self.url) {
            Ok(url) if !url.is_empty() => Some(url),
            _ => unless_missing(self.of_this_process().await),
        }
    }
    async fn start_own(&'static self) -> Result<Own> {
        let server = blocking(|| (self.start)(&self.installation()?)).await?;
        Ok(Own {
            url: server.url(),
            server: Handle::new(server),
        })
    }
    async fn of_this_process(&'static self) -> Result<String> {
        blocking(|| {
            let installation = self.installation()?;
            let server = self.shared.get_or_init(|| (self.start)(&installation));
            server.as_ref().map(Server::url).map_err(Error::clone)
        })
        .await
    }
    fn installation(&self) -> Result<I, Missing> {
        self.installation.get_or_init(self.find).clone()
    }
}

impl Own {
    /// Its URL, which stays the same over restarts.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
    /// Ends it in order.
    ///
    /// # Errors
    ///
    /// [`Error::State`] where it does not run.
    pub async fn stop(&self) -> Result<()> {
        self.server.with(Server::stop).await
    }
    /// Ends it with `SIGKILL`, as a crash of its machine would, but that the system's buffers survive.
    ///
    /// # Errors
    ///
    /// [`Error::State`] where it does not run.
    pub async fn kill(&self) -> Result<()> {
        self.server.with(Server::kill).await
    }
    /// Starts it again after a stop or a crash, and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// [`Error::State`] where it runs; [`Error::Start`] with its log.
    pub async fn restart(&self) -> Result<()> {
        self.server.with(Server::start).await
    }
    /// Lets it stand still: connections stay open, new ones are taken by the system, and nothing answers.
    ///
    /// # Errors
    ///
    /// [`Error::State`] where it does not run.
    pub async fn pause(&self) -> Result<()> {
        self.server.with(Server::pause).await
    }
    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// [`Error::State`] where it is not paused.
    pub async fn resume(&self) -> Result<()> {
        self.server.with(Server::resume).await
    }
    /// What the server has said so far, for a test that fails to show.
    pub async fn log(&self) -> String {
        self.server.with(|server| server.log()).await
    }
}

//! Servers as tests see them: one that they share, and one of a test's own, which it may crash.

use std::{env, sync::OnceLock};

use super::{Installation, Server, URL};
use crate::{
    Error, Missing, Result,
    blocking::{Handle, blocking},
    left_out::unless_missing,
};

/// A NATS of one test's own: stopped, crashed, made to stand still. It goes when this is dropped, and when the process dies.
///
/// Whatever is begun is done to its end, also where the future is dropped. None of it blocks the runtime: what the test runs
/// meets the fault while it happens.
#[derive(Debug, Clone)]
pub struct Own {
    server: Handle<Server>,
    url: String,
}

/// A server of the test's own; none: this machine has none to run, and the test is left out.
///
/// # Panics
///
/// Where [`TESTS`](crate::TESTS) asks for all tests and there is no server, or where there is one that does not work.
pub async fn own() -> Option<Own> {
    unless_missing(start().await)
}

/// The URL of the server that tests share: the one that [`URL`] names, or else one of this process's own. None: this machine
/// has none, and the test is left out.
///
/// # Panics
///
/// As [`own`].
pub async fn shared() -> Option<String> {
    match env::var(URL) {
        Ok(url) if !url.is_empty() => Some(url),
        _ => unless_missing(of_this_process().await),
    }
}

/// What this machine has; looked for once.
async fn installation() -> Result<Installation> {
    static FOUND: OnceLock<Result<Installation, Missing>> = OnceLock::new();
    let found = blocking(|| FOUND.get_or_init(Installation::find).clone()).await;
    Ok(found?)
}

/// A server for all tests of this process. Nobody drops it; it ends with the process.
async fn of_this_process() -> Result<String> {
    static SERVER: OnceLock<Result<Server>> = OnceLock::new();
    let installation = installation().await?;
    blocking(move || {
        let server = SERVER.get_or_init(|| installation.start());
        server.as_ref().map(Server::url).map_err(Error::clone)
    })
    .await
}

async fn start() -> Result<Own> {
    let installation = installation().await?;
    let server = blocking(move || installation.start()).await?;
    Ok(Own {
        url: server.url(),
        server: Handle::new(server),
    })
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

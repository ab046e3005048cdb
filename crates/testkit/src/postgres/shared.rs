//! The server that the tests of a run share.

use std::{env, sync::OnceLock};

use tokio::sync::OnceCell;

use super::{
    Database, Installation, Server, URL,
    database::Upkeep,
    installation::{MAJOR_MIN, WANTED},
    sql,
};
use crate::{Error, Missing, Result, blocking::blocking, left_out::unless_missing};

/// A PostgreSQL that many tests use at once, each in a database of its own.
///
/// It cannot be crashed or paused: [`Own`](super::Own) can.
#[derive(Debug, Clone)]
pub struct Shared {
    url: String,
}

/// The server that tests share; none: this machine has none, and the test is left out.
///
/// ```no_run
/// # async fn test() -> Result<(), sagamill_testkit::Error> {
/// let Some(server) = sagamill_testkit::postgres::shared().await else {
///     return Ok(()); // It has said so on standard error.
/// };
/// let database = server.database("orders").await?;
/// assert!(database.url().starts_with("postgres://"));
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// Where [`TESTS`](crate::TESTS) asks for all tests and there is no server, or where there is one that does not work.
pub async fn shared() -> Option<Shared> {
    unless_missing(Shared::find().await)
}

impl Shared {
    /// The server that [`URL`] names; where it names none, one of this process's own, started by the first who asks.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] with the command that gets one; [`Error::Unfit`]; [`Error::Start`] with the server's log.
    pub async fn find() -> Result<Self> {
        static CHECKED: OnceCell<()> = OnceCell::const_new();
        let url = match env::var(URL) {
            Ok(url) if !url.is_empty() => {
                CHECKED.get_or_try_init(|| check(&url)).await?;
                url
            }
            _ => of_this_process().await?,
        };
        Ok(Self { url })
    }
    /// The URL of the server's maintenance database, as the superuser.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
    /// A new database. Its name begins with the one given, of letters, digits and `_`.
    ///
    /// # Errors
    ///
    /// [`Error::Name`]; [`Error::Sql`] where the server refuses.
    pub async fn database(&self, name: &str) -> Result<Database> {
        Database::create(&self.url, name, Upkeep::OfValue).await
    }
}

/// What this machine has; looked for once.
pub(super) async fn installation() -> Result<Installation> {
    static FOUND: OnceLock<Result<Installation, Missing>> = OnceLock::new();
    let found = blocking(|| FOUND.get_or_init(Installation::find).clone()).await;
    Ok(found?)
}

/// A server for all tests of this process. Nobody drops it; it ends with the process.
async fn of_this_process() -> Result<String> {
    static SERVER: OnceLock<Result<Server>> = OnceLock::new();
    let installation = installation().await?;
    blocking(move || {
        let server = SERVER.get_or_init(|| installation.start(&[]));
        server.as_ref().map(Server::url).map_err(Error::clone)
    })
    .await
}

/// Whether tests can use a server.
async fn check(url: &str) -> Result<()> {
    let unfit = |why: String| Error::Unfit { variable: URL, why };
    let version: String = sql::value(url, &format!("use the server of {URL}"), "SHOW server_version_num", &[]).await?;
    let major = version.parse::<u32>().unwrap_or_default() / 10_000;
    if major < MAJOR_MIN {
        return Err(unfit(format!("its version is {major}, and {WANTED} is needed")));
    }
    let query = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
    if !sql::value::<bool>(url, "ask for its rights", query, &[]).await? {
        return Err(unfit("its user is not a superuser".to_owned()));
    }
    Ok(())
}

//! A standby that lags as much as a test wants, and takes over.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Own, sql};
use crate::{Error, Result};

/// How long a standby may take to do what it is told: all that it needs is there.
const OBEY_MAX: Duration = Duration::from_secs(60);
/// How often it is asked whether it has.
const PAUSE: Duration = Duration::from_millis(20);

/// A server that follows another, asynchronously: the primary acknowledges a commit alone.
///
/// What it lacks when it is [promoted](Self::promote) is lost, as in a real failover. [Detach](Self::detach) it first, and
/// all that the primary commits from then on is the missing tail.
#[derive(Debug)]
pub struct Standby {
    server: Own,
    primary_url: String,
    /// How it reaches the primary, as its own setting has it.
    primary_conninfo: String,
}

impl Standby {
    /// Takes a standby that runs, and waits until it has what the primary has committed.
    pub(super) async fn follow(server: Own, primary_url: &str) -> Result<Self> {
        let query = "SELECT current_setting('primary_conninfo')";
        let primary_conninfo = sql::value(server.url(), "ask a standby whom it follows", query, &[]).await?;
        let standby = Self {
            server,
            primary_url: primary_url.to_owned(),
            primary_conninfo,
        };
        standby.caught_up().await?;
        Ok(standby)
    }
    /// The server that it is, to be stopped, crashed or paused.
    #[must_use]
    pub fn server(&self) -> &Own {
        &self.server
    }
    /// The URL of its database `postgres`: it can be read, not written.
    #[must_use]
    pub fn url(&self) -> &str {
        self.server.url()
    }
    /// Waits until what the primary has committed by now can be read here.
    ///
    /// # Errors
    ///
    /// [`Error::Late`] where it is detached or its replay is paused; [`Error::Sql`] where a server does not answer.
    pub async fn caught_up(&self) -> Result<()> {
        let query = "SELECT pg_current_wal_lsn()::text";
        let end: String = sql::value(&self.primary_url, "ask the primary where its log ends", query, &[]).await?;
        let query = "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn";
        self.until("a standby's catching up", query, &[&end]).await
    }
    /// Stops receiving: what the primary commits from now on does not arrive, until it is [attached](Self::attach) again.
    ///
    /// # Errors
    ///
    /// [`Error::Sql`] where the standby does not answer, [`Error::Late`] where it does not obey.
    pub async fn detach(&self) -> Result<()> {
        self.connect_to("").await?;
        let query = "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)";
        self.until("the end of a standby's receiving", query, &[]).await
    }
    /// Receives again, from where it stopped: the primary has kept it.
    ///
    /// # Errors
    ///
    /// [`Error::Sql`] where the standby does not answer, [`Error::Late`] where the primary does not run.
    pub async fn attach(&self) -> Result<()> {
        self.connect_to(&self.primary_conninfo).await?;
        let query = "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')";
        self.until("a standby's receiving", query, &[]).await
    }
    /// Shows no more of what it receives: reads from it are stale, and nothing is lost.
    ///
    /// # Errors
    ///
    /// [`Error::Sql`] where the standby does not answer, [`Error::Late`] where it does not obey.
    pub async fn pause_replay(&self) -> Result<()> {
        self.tell("pause replay", "SELECT pg_wal_replay_pause()").await?;
        let query = "SELECT pg_get_wal_replay_pause_state() = 'paused'";
        self.until("the pause of a standby's replay", query, &[]).await
    }
    /// Shows what it receives again.
    ///
    /// # Errors
    ///
    /// [`Error::Sql`] where the standby does not answer.
    pub async fn resume_replay(&self) -> Result<()> {
        self.tell("resume replay", "SELECT pg_wal_replay_resume()").await
    }
    /// Makes it a primary, with what it has received. The old primary does not learn of it: end it first, or have two.
    ///
    /// # Errors
    ///
    /// [`Error::Sql`] where the standby does not answer, [`Error::Late`] where it does not obey.
    pub async fn promote(self) -> Result<Own> {
        // The function would wait by itself, and be as silent about a failure as this is about success.
        self.tell("promote a standby", "SELECT pg_promote(false)").await?;
        self.until("the promotion of a standby", "SELECT NOT pg_is_in_recovery()", &[])
            .await?;
        Ok(self.server)
    }

    async fn connect_to(&self, primary: &str) -> Result<()> {
        let set = format!("ALTER SYSTEM SET primary_conninfo = '{}'", primary.replace('\'', "''"));
        let statements = [set, "SELECT pg_reload_conf()".to_owned()];
        sql::execute(self.url(), "tell a standby whom to follow", &statements).await
    }
    async fn tell(&self, verb: &str, statement: &str) -> Result<()> {
        sql::execute(self.url(), verb, &[statement.to_owned()]).await
    }
    async fn until(&self, what: &str, query: &'static str, parameters: &[&str]) -> Result<()> {
        let end = Instant::now() + OBEY_MAX;
        while !sql::value::<bool>(self.url(), what, query, parameters).await? {
            if Instant::now() > end {
                return Err(Error::Late {
                    what: what.to_owned(),
                    within: OBEY_MAX,
                });
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }
}

//! A database of one test's own, and roles in it.

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::sql;
use crate::{Error, Result, process, random, url};

/// The server cuts names after 63 bytes; ours end with 9 of their own.
const NAME_MAX: usize = 48;
/// How long connections may take to go that were ended.
const GONE_MAX: Duration = Duration::from_secs(30);

/// A database of one test's own. It is dropped with this value, its connections cut; of a server of the test's own it goes
/// with that.
#[derive(Debug)]
pub struct Database {
    server_url: String,
    name: String,
    url: String,
    roles: Mutex<Vec<String>>,
    upkeep: Upkeep,
}

/// Who clears a database away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upkeep {
    /// Its value: the server has many tests' databases.
    OfValue,
    /// Its server, which goes with the test.
    OfServer,
}

/// A user of a database: it may log in, and nothing else that is not granted to everybody.
#[derive(Debug, Clone)]
pub struct Role {
    name: String,
    url: String,
}

impl Database {
    pub(super) async fn create(server_url: &str, name: &str, upkeep: Upkeep) -> Result<Self> {
        let name = unique(name)?;
        let statement = format!("CREATE DATABASE \"{name}\"");
        sql::execute(server_url, &format!("create the database {name}"), &[statement]).await?;
        Ok(Self {
            url: url::with_database(server_url, &name),
            server_url: server_url.to_owned(),
            name,
            roles: Mutex::default(),
            upkeep,
        })
    }
    /// Its URL, as the superuser.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
    /// Its name on the server: that it was asked for by, and a suffix that no other has.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// A new role, which goes with the database.
    ///
    /// # Errors
    ///
    /// [`Error::Name`]; [`Error::Sql`] where the server refuses.
    pub async fn role(&self, name: &str) -> Result<Role> {
        let (name, password) = (unique(name)?, random::password());
        let statement = format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}'");
        sql::execute(&self.server_url, &format!("create the role {name}"), &[statement]).await?;
        self.lock().push(name.clone());
        Ok(Role {
            url: url::with_user(&self.url, &name, &password),
            name,
        })
    }
    /// Ends all connections to this database from the server's side, at once, as an operator or a failover would, and waits
    /// until they are gone. Gives how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::Sql`] where the server cannot be asked, [`Error::Late`] where they do not go.
    pub async fn terminate_backends(&self) -> Result<u64> {
        const NOW: &str = "SELECT clock_timestamp()::text";
        // First who, then the end: in one condition, the server may end others before it looks whose they are. Not by the
        // function's own patience: it looks ten times a second, at one after the other.
        const TERMINATE: &str = "WITH of_database AS MATERIALIZED \
             (SELECT pid FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()) \
             SELECT count(*) FROM of_database WHERE pg_terminate_backend(pid)";
        const LEFT: &str = "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = $1 AND pid <> pg_backend_pid() AND backend_start < $2::timestamptz";
        let verb = "terminate backends";
        let before: String = sql::value(&self.server_url, verb, NOW, &[]).await?;
        let count: i64 = sql::value(&self.server_url, verb, TERMINATE, &[&self.name]).await?;
        let end = Instant::now() + GONE_MAX;
        while sql::value::<i64>(&self.server_url, verb, LEFT, &[&self.name, &before]).await? > 0 {
            if Instant::now() > end {
                return Err(Error::Late {
                    what: verb.to_owned(),
                    within: GONE_MAX,
                });
            }
            tokio::time::sleep(process::PAUSE).await;
        }
        Ok(count.unsigned_abs())
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.upkeep == Upkeep::OfServer {
            return;
        }
        let mut statements = vec![format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.name)];
        statements.extend(self.lock().iter().map(|role| format!("DROP ROLE IF EXISTS \"{role}\"")));
        let url = self.server_url.clone();
        // On a thread and a runtime of its own, because this one may be about to end. What fails is left to whoever owns
        // the server: a test must not fail for it.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                let _ = runtime.block_on(sql::execute(&url, "drop a database", &statements));
            }
        });
        let _ = dropped.join();
    }
}

impl Role {
    /// Its name on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The URL of its database, with this role.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// A name that no other test has.
fn unique(name: &str) -> Result<String> {
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && name.len() <= NAME_MAX;
    if !fits {
        return Err(Error::Name(name.to_owned()));
    }
    Ok(format!("{name}_{}", random::suffix()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_have_to_be_quoted_or_cut_are_refused() {
        for bad in ["", "Orders", "1st", "a-b", "a\"b", &"x".repeat(49)] {
            assert!(matches!(unique(bad), Err(Error::Name(_))), "{bad}");
        }
        let (one, other) = (unique("orders_2").unwrap(), unique("orders_2").unwrap());
        assert!(one.starts_with("orders_2_") && one != other);
    }
}

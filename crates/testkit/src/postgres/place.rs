//! Where one server's files are and its processes run.

use super::template::SUPERUSER;
use crate::{Result, server};

/// Settings of every server here, as `postgresql.conf` names them. Whatever makes commits durable stays as it is by default:
/// crash tests and measurements rest on it.
pub(crate) const SETTINGS: [(&str, &str); 3] = [
    // Each test of a run in parallel, each with its pools, on one server.
    ("max_connections", "400"),
    // A standby that was kept from its primary does not think it over for 5 s.
    ("wal_retrieve_retry_interval", "100ms"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
];

/// A place of PostgreSQL.
pub(crate) trait Place: server::Place {
    /// The superuser's password.
    fn password(&self) -> &str;
    /// A copy of this server, which runs on that port, to be started as its standby.
    fn standby(&self, port: u16) -> Result<Box<dyn Place>>;
}

/// The arguments of `postgres` for the settings of every server and those of this one.
pub(crate) fn arguments<'a>(settings: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> Vec<String> {
    let all = SETTINGS.iter().chain(settings);
    all.flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")])
        .collect()
}

/// The URL of a server's own database.
pub(crate) fn url(password: &str, port: u16) -> String {
    format!("postgres://{SUPERUSER}:{password}@127.0.0.1:{port}/postgres")
}

//! The log to look into, whether the process that writes it runs or not.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context;
use clap::Args;
use sagamill::saga::EventStore;
use sqlx::{Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::failure::{Code, Failure};

/// The service whose log the sagas are in.
const SERVICE: &str = "order";

/// Where to look.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Source {
    /// The directory that `sagamill dev --data` was given or named.
    #[arg(long, value_name = "DIR", env = "SAGAMILL_DATA")]
    data: Option<PathBuf>,
    /// The store itself: `sqlite:FILE`, or `postgres://user@host:port`, with `/database` where it is not `sagamill_order`.
    #[arg(long, value_name = "URL", env = "SAGAMILL_STORE")]
    store: Option<Store>,
}

/// A store that is named by its URL.
#[derive(Debug, Clone)]
enum Store {
    File(PathBuf),
    Server(Server),
}

impl FromStr for Store {
    type Err = String;
    fn from_str(url: &str) -> Result<Self, Self::Err> {
        match url.strip_prefix("sqlite:") {
            Some("") => Err("no file is named".to_owned()),
            Some(path) => Ok(Self::File(path.into())),
            None => url.parse().map(Self::Server),
        }
    }
}

/// A PostgreSQL server, and one of its databases where the URL names one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// As far as the slash before the database.
    root: String,
    database: Option<String>,
    /// `?sslmode=…`, or nothing.
    options: String,
}

/// The database of a service, on a server that holds those of the whole shop.
pub(crate) fn database(service: &str) -> String {
    format!("sagamill_{service}")
}

impl Server {
    /// The database that is named, else that of this service.
    pub(crate) fn url(&self, service: &str) -> String {
        self.of(&self.database.clone().unwrap_or_else(|| database(service)))
    }
    /// The database that each server has.
    #[cfg(feature = "shop")]
    pub(crate) fn maintenance(&self) -> String {
        self.of("postgres")
    }
    /// Whether a database is named.
    #[cfg(feature = "shop")]
    pub(crate) fn names_one(&self) -> bool {
        self.database.is_some()
    }
    fn of(&self, database: &str) -> String {
        format!("{}/{database}{}", self.root, self.options)
    }
}

impl FromStr for Server {
    type Err = String;
    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or("a store is `sqlite:FILE` or `postgres://user@host:port`")?;
        let (rest, options) = match rest.split_once('?') {
            Some((rest, options)) => (rest, format!("?{options}")),
            None => (rest, String::new()),
        };
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self {
            root: format!("postgres://{authority}"),
            database: Some(database.to_owned()).filter(|database| !database.is_empty()),
            options,
        })
    }
}

/// Without password and options.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.root.trim_start_matches("postgres://");
        match authority.rsplit_once('@') {
            Some((who, host)) => {
                let user = who.split(':').next().unwrap_or_default();
                write!(f, "postgres://{user}@{host}")?;
            }
            None => f.write_str(&self.root)?,
        }
        match &self.database {
            Some(database) => write!(f, "/{database}"),
            None => Ok(()),
        }
    }
}
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Source {
    /// Opens the log.
    pub(crate) async fn open(&self) -> Result<EventStore, Failure> {
        let (url, shown) = self.url()?;
        match self.place()? {
            Place::File(file) => refuse_other_files(&file).await?,
            Place::Server(server) => refuse_other_databases(&url, server).await?,
        }
        let opened = EventStore::connect(&url)
            .await
            .with_context(|| format!("cannot open {shown}"));
        opened.map_err(|error| Failure::new(Code::Unavailable, error))
    }
    /// The URL of the store, and how it is shown.
    pub(crate) fn url(&self) -> Result<(String, String), Failure> {
        Ok(match self.place()? {
            Place::File(file) => (format!("sqlite:{}", file.display()), file.display().to_string()),
            Place::Server(server) => (server.url(SERVICE), server.to_string()),
        })
    }
    fn place(&self) -> Result<Place<'_>, Failure> {
        match (&self.data, &self.store) {
            (_, Some(Store::Server(server))) => Ok(Place::Server(server)),
            (_, Some(Store::File(file))) => Ok(Place::File(file.clone())),
            (Some(data), None) => file_of(data).map(Place::File),
            (None, None) => Err(Failure::usage("name the log: --data DIR or --store URL")),
        }
    }
}

/// Where the log is.
enum Place<'a> {
    File(PathBuf),
    Server(&'a Server),
}

fn file_of(data: &Path) -> Result<PathBuf, Failure> {
    let shown = data.display();
    if !data.is_dir() {
        return Err(Failure::not_found(format!("there is no directory {shown}")));
    }
    let (file, name) = (data.join(format!("{SERVICE}.db")), format!("{SERVICE}.db"));
    if !file.is_file() {
        return Err(Failure::not_found(format!(
            "{shown} holds no {name}; `sagamill dev --data {shown}` makes one"
        )));
    }
    Ok(file)
}

/// A store would make its tables in any database; one that has none is not ours to change.
async fn refuse_other_files(file: &Path) -> Result<(), Failure> {
    if !file.is_file() {
        return Err(Failure::not_found(format!("there is no file {}", file.display())));
    }
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let known = async {
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let tables: i64 = sqlx::query_scalar("select count(*) from sqlite_master where name = 'es_event'")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        anyhow::Ok(tables == 1)
    };
    match known.await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::not_found(format!(
            "{} is a database that holds no log",
            file.display()
        ))),
        Err(error) => Err(error.context(format!("{} is not a log", file.display())).into()),
    }
}

async fn refuse_other_databases(url: &str, server: &Server) -> Result<(), Failure> {
    let known = async {
        let mut connection = PgConnection::connect(url).await?;
        let table: bool = sqlx::query_scalar("select to_regclass('es.event') is not null")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        anyhow::Ok(table)
    };
    match known.await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::not_found(format!("{server} is a database that holds no log"))),
        Err(error) => Err(Failure::new(
            Code::Unavailable,
            error.context(format!("cannot look into {server}")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_without_a_database_is_that_of_the_service() {
        let server: Server = "postgres://ada:secret@db:5433?sslmode=require".parse().unwrap();
        assert_eq!(
            server.url("order"),
            "postgres://ada:secret@db:5433/sagamill_order?sslmode=require"
        );
        let named: Server = "postgresql://db/shop".parse().unwrap();
        assert_eq!(named.url("order"), "postgres://db/shop");
        assert!("mysql://db".parse::<Server>().is_err());
    }

    #[test]
    fn password_is_not_shown() {
        let shown = |url: &str| url.parse::<Server>().unwrap().to_string();
        assert_eq!(
            shown("postgres://ada:se:cr@t@db:5433/shop"),
            "postgres://ada@db:5433/shop"
        );
        assert_eq!(shown("postgres://db"), "postgres://db");
    }
}

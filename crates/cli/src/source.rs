//! The log that a directory of `sagamill dev` holds, whether the process runs or not.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use sagamill::saga::EventStore;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::failure::{Code, Failure};

/// The log that sagas are in: the order service's.
pub(crate) const LOG: &str = "order.db";

/// Where to look.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// The directory that `sagamill dev --data` was given or named.
    #[arg(long, value_name = "DIR", env = "SAGAMILL_DATA")]
    data: PathBuf,
}

impl Source {
    /// Opens the log.
    pub(crate) async fn open(&self) -> Result<EventStore, Failure> {
        let file = self.file()?;
        refuse_other_files(&file).await?;
        let url = format!("sqlite:{}", file.display());
        let opened = EventStore::connect(&url)
            .await
            .with_context(|| format!("cannot open {}", file.display()));
        opened.map_err(|error| Failure::new(Code::Unavailable, error))
    }
    fn file(&self) -> Result<PathBuf, Failure> {
        let shown = self.data.display();
        if !self.data.is_dir() {
            return Err(Failure::not_found(format!("there is no directory {shown}")));
        }
        let file = self.data.join(LOG);
        if !file.is_file() {
            return Err(Failure::not_found(format!(
                "{shown} holds no {LOG}; `sagamill dev --data {shown}` makes one"
            )));
        }
        Ok(file)
    }
}

/// A store would make its tables in any database; one that has none is not ours to change.
async fn refuse_other_files(file: &Path) -> Result<(), Failure> {
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

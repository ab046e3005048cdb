//! `migrate`: the tables of log and sagas, made or printed.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use sagamill::{
    eventstore::{Dialect, EventStore},
    saga,
};

use crate::{
    failure::{Code, Failure},
    output::stdout,
    source::Source,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    source: Source,
    /// Change nothing: print the statements for this kind of database, for those who run them by themselves.
    #[arg(long)]
    print: bool,
}

pub(crate) async fn run(options: Options) -> Result<Code, Failure> {
    let (url, shown) = options.source.url()?;
    if options.print {
        return print(&url);
    }
    let unavailable = |error: anyhow::Error| Failure::new(Code::Unavailable, error);
    let store = EventStore::connect(&url)
        .await
        .with_context(|| format!("cannot open {shown}"))
        .map_err(unavailable)?;
    saga::migrate(&store).await.map_err(|error| unavailable(error.into()))?;
    store.close().await;
    eprintln!("the tables in {shown} are up to date");
    Ok(Code::Success)
}

fn print(url: &str) -> Result<Code, Failure> {
    let (scheme, dialect) = if url.starts_with("sqlite:") {
        ("sqlite", Dialect::Sqlite)
    } else {
        ("postgres", Dialect::Postgres)
    };
    let mut out = stdout();
    for migration in sagamill::eventstore::migrations(dialect) {
        writeln!(
            out,
            "-- the log, revision {}\n{}",
            migration.revision,
            migration.sql.trim()
        )?;
    }
    if let Some(sql) = saga::migrations(scheme) {
        writeln!(out, "\n-- the barrier of participants and local steps\n{}", sql.trim())?;
    }
    out.flush()?;
    Ok(Code::Success)
}

//! `subscription`: how far each reader of the log is, and the way out where the log went another way.

use std::io::Write;

use clap::{Args, Subcommand};
use sagamill::eventstore::{EventStore, Lag};
use serde::Serialize;

use crate::{
    failure::{Code, Failure},
    output::{ListFormat, json_line, plain, stdout, table},
    source::Source,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List subscriptions, and how far each is behind.
    List(List),
    /// Where a log went another way (a failover, a restored backup): go on at the last kept place that both histories share.
    Rewind(Verdict),
    /// Where a log went another way: go on behind what was read, and never read what this history has up to there.
    Accept(Verdict),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    source: Source,
    /// How it looks.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct Verdict {
    /// The subscription, as `subscription list` has it.
    name: String,
    #[command(flatten)]
    source: Source,
}

pub(crate) async fn run(command: Command) -> Result<Code, Failure> {
    match command {
        Command::List(options) => list(options).await,
        Command::Rewind(Verdict { name, source }) => {
            let store = source.open().await?;
            known(&store, &name).await?;
            report(&name, store.rewind(&name).await?)
        }
        Command::Accept(Verdict { name, source }) => {
            let store = source.open().await?;
            known(&store, &name).await?;
            report(&name, store.accept(&name).await?)
        }
    }
}

/// A subscription in one line.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    shards: usize,
    /// The least that any of its shards has read.
    position: i64,
    /// How many positions that is behind the head.
    lag: i64,
    /// How many of its shards a process works on now.
    owned: usize,
}

async fn list(options: List) -> Result<Code, Failure> {
    let health = options.source.open().await?.health().await?;
    let head = health.head.position.0;
    let row = |lag: Lag| Row {
        name: lag.name,
        shards: lag.shards,
        position: head - lag.positions,
        lag: lag.positions,
        owned: lag.shards - lag.unowned,
    };
    let rows: Vec<_> = health.subscriptions.into_iter().map(row).collect();
    let mut out = stdout();
    match options.output {
        ListFormat::Json => json_line(&mut out, &rows)?,
        ListFormat::Ids => rows.iter().try_for_each(|row| writeln!(out, "{}", plain(&row.name)))?,
        ListFormat::Table => {
            let cells = rows.iter().map(|row| {
                let numbers = [row.shards.to_string(), row.position.to_string(), row.lag.to_string()];
                let name = [row.name.clone()].into_iter();
                name.chain(numbers).chain([row.owned.to_string()]).collect()
            });
            out.write_all(table(&["SUBSCRIPTION", "SHARDS", "POSITION", "LAG", "OWNED"], cells).as_bytes())?;
        }
    }
    out.flush()?;
    Ok(Code::Success)
}

async fn known(store: &EventStore, name: &str) -> Result<(), Failure> {
    let known = store
        .checkpoints()
        .await?
        .iter()
        .any(|checkpoint| checkpoint.name == name);
    if known {
        return Ok(());
    }
    Err(Failure::not_found(format!(
        "there is no subscription `{name}`; `sagamill subscription list` names all"
    )))
}

fn report(name: &str, moved: usize) -> Result<Code, Failure> {
    if moved == 0 {
        eprintln!("`{name}` has read nothing that is not in this log; nothing was moved");
    } else {
        eprintln!("moved {moved} shards of `{name}`; start its processes again");
    }
    Ok(Code::Success)
}

//! Measurements, each side by side with a baseline in the same run on the same machine.
//!
//! Absolute figures say little about another machine; the ratio does. `bench/README.md` says what each case does.
#![expect(clippy::print_stdout, reason = "a command speaks on standard output")]

mod append;
#[cfg(feature = "brokers")]
mod broker;
mod case;
mod effect;
mod load;
mod machine;
mod measure;
mod memory_bus;
mod order;
mod postgres;
mod raw;
mod replay;
mod report;
mod saga;
mod staged;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use clap::Parser;

use crate::{
    case::{Case, Setting, Store},
    postgres::{server::Server, worker},
    report::Output,
};

#[derive(Debug, Parser)]
#[command(about = "Measures side by side with a baseline")]
struct Args {
    /// One case, or the first part of its name; all where it is left out
    name: Option<String>,
    /// The store that the cases run on
    #[arg(long, value_enum, default_value_t = Store::Sqlite)]
    store: Store,
    /// The broker that the bus is measured over, in place of the cases on a store
    #[cfg(feature = "brokers")]
    #[arg(long, value_enum, conflicts_with = "store")]
    broker: Option<broker::Kind>,
    /// How long one round of a case runs
    #[arg(long, value_name = "SECONDS", default_value = "1.5", value_parser = a_while)]
    seconds: Duration,
    /// Rounds of each case and as many of its baseline, in turns; the median round counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// One JSON object a line, or a table
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Where the databases are made, in a folder that is removed afterwards; by default beside this program, so on a
    /// real disk where that is on one
    #[arg(long)]
    data: Option<PathBuf>,
    /// Events of the log that is replayed
    #[arg(long, default_value_t = 200_000)]
    events: usize,
    /// Events of the log that a larger one is held against
    #[arg(long, default_value_t = 1_000_000)]
    small: usize,
    /// Events of the larger log
    #[arg(long, default_value_t = 4_000_000)]
    large: usize,
    /// Runs one side alone, for a profiler
    #[arg(long, hide = true)]
    side: Option<measure::Side>,
    /// Passes messages one way and ends: what an instruction counter is put around
    #[arg(long, hide = true, requires = "messages")]
    pass: Option<memory_bus::Way>,
    #[arg(long, hide = true, default_value_t = 0)]
    messages: usize,
}

#[cfg(feature = "brokers")]
impl Args {
    fn cases(&self) -> &'static [Case] {
        self.broker.map_or(self.store.cases(), broker::Kind::cases)
    }
    fn is_on_postgres(&self) -> bool {
        self.store == Store::Postgres || self.broker == Some(broker::Kind::Postgres)
    }
    fn broker(&self) -> Option<&'static str> {
        self.broker.map(broker::Kind::name)
    }
}

#[cfg(not(feature = "brokers"))]
impl Args {
    fn cases(&self) -> &'static [Case] {
        self.store.cases()
    }
    fn is_on_postgres(&self) -> bool {
        self.store == Store::Postgres
    }
    #[expect(clippy::unused_self, reason = "there is one with the feature `brokers`")]
    fn broker(&self) -> Option<&'static str> {
        None
    }
}

/// A time in which something can be counted.
fn a_while(seconds: &str) -> Result<Duration, String> {
    let seconds: f64 = seconds.parse().map_err(|error| format!("{error}"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        Ok(_) => Err("nothing can be counted in no time: 0.1 or more, please".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn main() -> anyhow::Result<()> {
    if worker::run()? {
        return Ok(());
    }
    let args = Args::parse();
    if let Some(way) = args.pass {
        return memory_bus::pass(way, args.messages);
    }
    let cases = chosen(args.cases(), args.name.as_deref())?;
    let beside = std::env::current_exe().context("cannot tell where this program is")?;
    let parent = args
        .data
        .as_deref()
        .or(beside.parent())
        .context("this program has no folder")?;
    let folder = tempfile::Builder::new().prefix("sagamill-bench-").tempdir_in(parent)?;
    machine::describe(folder.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = match args.is_on_postgres() {
        true => Some(runtime.block_on(Server::start())?),
        false => None,
    };
    let setting = Setting {
        folder: folder.path().to_owned(),
        round: args.seconds,
        rounds: args.rounds.max(1),
        side: args.side,
        // It is filled by thousands.
        events: args.events.next_multiple_of(1_000),
        small: args.small,
        large: args.large,
        server,
        #[cfg(feature = "brokers")]
        broker: args.broker.map(broker::Kind::start).transpose()?.flatten(),
        is_watched: false,
        begun: Arc::default(),
    };
    let mut report = report::Report::new(args.output, args.broker());
    for case in cases {
        let line = runtime
            .block_on(case.run(&setting))
            .with_context(|| format!("case {}", case.name))?;
        report.line(case, &line)?;
    }
    Ok(())
}

fn chosen(cases: &'static [Case], name: Option<&str>) -> anyhow::Result<Vec<&'static Case>> {
    let name = name.unwrap_or_default();
    let exact: Vec<_> = cases.iter().filter(|case| case.name == name).collect();
    if !exact.is_empty() {
        return Ok(exact);
    }
    let begun: Vec<_> = cases.iter().filter(|case| case.name.starts_with(name)).collect();
    if begun.is_empty() {
        let names: Vec<_> = cases.iter().map(|case| case.name).collect();
        bail!("no case `{name}`; there are {}", names.join(", "));
    }
    Ok(begun)
}

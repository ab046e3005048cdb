//! Measurements, each side by side with a baseline in the same run on the same machine.
//!
//! Absolute figures say little about another machine; the ratio does. `bench/README.md` says what each case does.
#![expect(clippy::print_stdout, reason = "a command speaks on standard output")]

mod append;
mod case;
mod effect;
mod load;
mod machine;
mod measure;
mod memory_bus;
mod order;
mod raw;
mod replay;
mod report;
mod saga;
mod staged;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::Parser;

use crate::{
    case::{Case, Setting},
    report::Output,
};

#[derive(Debug, Parser)]
#[command(about = "Measures side by side with a baseline")]
struct Args {
    /// One case, or the first part of its name; all where it is left out
    name: Option<String>,
    /// The store that the cases run on
    #[arg(long, default_value = "sqlite")]
    store: String,
    /// How long one round of a case runs
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
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
    /// Runs one side alone, for a profiler
    #[arg(long, hide = true)]
    side: Option<measure::Side>,
    /// Passes messages one way and ends: what an instruction counter is put around
    #[arg(long, hide = true, requires = "messages")]
    pass: Option<memory_bus::Way>,
    #[arg(long, hide = true, default_value_t = 0)]
    messages: usize,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(way) = args.pass {
        return memory_bus::pass(way, args.messages);
    }
    if args.store != "sqlite" {
        bail!("there is no store `{}` yet: --store sqlite", args.store);
    }
    let cases = chosen(args.name.as_deref())?;
    let beside = std::env::current_exe().context("cannot tell where this program is")?;
    let parent = args
        .data
        .as_deref()
        .or(beside.parent())
        .context("this program has no folder")?;
    let folder = tempfile::Builder::new().prefix("sagamill-bench-").tempdir_in(parent)?;
    machine::describe(folder.path())?;
    let setting = Setting {
        folder: folder.path().to_owned(),
        round: Duration::try_from_secs_f64(args.seconds)?,
        rounds: args.rounds.max(1),
        side: args.side,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = report::Report::new(args.output);
    for case in cases {
        let line = runtime
            .block_on(case.run(&setting))
            .with_context(|| format!("case {}", case.name))?;
        report.line(case, &line)?;
    }
    Ok(())
}

fn chosen(name: Option<&str>) -> anyhow::Result<Vec<&'static Case>> {
    let name = name.unwrap_or_default();
    let exact: Vec<_> = case::CASES.iter().filter(|case| case.name == name).collect();
    if !exact.is_empty() {
        return Ok(exact);
    }
    let cases: Vec<_> = case::CASES.iter().filter(|case| case.name.starts_with(name)).collect();
    if cases.is_empty() {
        let names: Vec<_> = case::CASES.iter().map(|case| case.name).collect();
        bail!("no case `{name}`; there are {}", names.join(", "));
    }
    Ok(cases)
}

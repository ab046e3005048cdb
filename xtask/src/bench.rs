//! `cargo xtask bench`: builds the measurements as a release, without link-time optimization, and runs them.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};

/// What is measured, and how it is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One case, or the first part of its name; all where it is left out. With a broker: `bus`
    name: Option<String>,
    /// One case of the bus, or the first part of its name; all where it is left out
    #[arg(requires = "broker")]
    of_bus: Option<String>,
    /// The broker that the bus is measured over, in place of the cases on a store
    #[arg(long, value_parser = ["kafka", "rabbitmq", "nats", "postgres"], conflicts_with = "store")]
    broker: Option<String>,
    /// The store that the cases run on
    #[arg(long, default_value = "sqlite", value_parser = ["sqlite", "postgres"])]
    store: String,
    /// How long each round of a case runs
    #[arg(long)]
    seconds: Option<f64>,
    /// Rounds of each case and as many of its baseline, in turns
    #[arg(long)]
    rounds: Option<usize>,
    /// Events of the log that is replayed
    #[arg(long)]
    events: Option<usize>,
    /// Events of the log that a larger one is held against
    #[arg(long)]
    small: Option<usize>,
    /// Events of the larger log
    #[arg(long)]
    large: Option<usize>,
    /// One JSON object a line, or a table
    #[arg(short, long, default_value = "table", value_parser = ["json", "table"])]
    output: String,
}

/// Runs them; their exit code is this one's.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut command = sagamill_testkit::cargo();
    command.args(["run", "--quiet", "--profile", "bench", "--package", "sagamill-bench"]);
    match &args.broker {
        Some(broker) => {
            ensure!(
                args.name.as_deref().is_none_or(|name| name == "bus"),
                "of the bus alone there are cases on brokers: `cargo xtask bench bus publish-64 --broker {broker}`"
            );
            // The clients of brokers compile for minutes, and nothing else needs them.
            command.args(["--features", "brokers", "--"]).args(&args.of_bus);
            command.args(["--broker", broker]);
        }
        None => {
            command.arg("--").args(&args.name).args(["--store", &args.store]);
        }
    }
    command.args(["--output", &args.output]);
    if let Some(seconds) = args.seconds {
        command.arg("--seconds").arg(seconds.to_string());
    }
    let counts = [
        ("--rounds", args.rounds),
        ("--events", args.events),
        ("--small", args.small),
        ("--large", args.large),
    ];
    for (name, count) in counts {
        if let Some(count) = count {
            command.arg(name).arg(count.to_string());
        }
    }
    let status = command.status().context("cannot start cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

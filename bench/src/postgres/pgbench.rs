//! Baselines that PostgreSQL's own `pgbench` runs.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, bail, ensure};
use tokio::process::Command;

use super::database::Database;
use crate::{case::Setting, measure::Sample};

/// Where distributions put it, besides the `PATH`.
const PLACES: &str = "/usr/lib/postgresql";

/// A script that clients run again and again.
pub(super) struct Script<'a> {
    pub(super) text: &'a str,
    pub(super) clients: u32,
    /// What one run of it counts.
    pub(super) units: u32,
}

/// Runs it for a round, in whole seconds, each statement prepared once.
pub(super) async fn run(setting: &Setting, database: &Database, script: &Script<'_>) -> anyhow::Result<Sample> {
    let folder = setting.fresh()?;
    let path = folder.path().join("script.sql");
    std::fs::write(&path, script.text)?;
    let seconds = setting.round.as_secs_f64().ceil().max(1.0);
    let clients = script.clients.to_string();
    let threads = script.clients.min(2).to_string();
    let output = Command::new(program()?)
        .args(["--no-vacuum", "--protocol=prepared", "--define=n=0"])
        .args(["--client", &clients, "--jobs", &threads])
        .args(["--time", &seconds.to_string(), "--file"])
        .arg(&path)
        .arg(database.url())
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot start pgbench")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "pgbench failed: {}{said}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rate = figure(&said, "tps = ").context("pgbench says no rate")?;
    let done = figure(&said, "actually processed: ").context("pgbench says no count")?;
    let latency = figure(&said, "latency average = ").context("pgbench says no latency")?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count that was printed as one"
    )]
    let units = done as usize * script.units as usize;
    let sample = Sample::new(rate * f64::from(script.units), units, Vec::new());
    Ok(sample.with("mean_ms", latency))
}

/// The number after a word.
fn figure(said: &str, word: &str) -> Option<f64> {
    let rest = said.split_once(word)?.1;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The one on the `PATH`, else the newest that is installed.
fn program() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("pgbench"));
    let versions = std::fs::read_dir(PLACES).into_iter().flatten().flatten();
    let mut installed: Vec<_> = versions.map(|version| version.path().join("bin/pgbench")).collect();
    installed.sort();
    let found = on_path
        .chain(installed.into_iter().rev())
        .find(|program| program.exists());
    match found {
        Some(program) => Ok(program),
        None => bail!("there is no pgbench, which the baseline runs on; it comes with PostgreSQL's server programs"),
    }
}

#[cfg(test)]
mod tests {
    use super::figure;

    #[test]
    fn figures_are_read_from_what_pgbench_says() {
        let said = "number of transactions actually processed: 25385\nlatency average = 1.260 ms\n\
                    tps = 25392.123456 (without initial connection time)\n";
        assert_eq!(figure(said, "tps = "), Some(25_392.123_456));
        assert_eq!(figure(said, "actually processed: "), Some(25_385.0));
        assert_eq!(figure(said, "latency average = "), Some(1.26));
        assert_eq!(figure(said, "lag = "), None);
    }
}

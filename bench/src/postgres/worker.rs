//! This program once more, as a process that shares a log with others or is killed.

use std::process::Stdio;

use anyhow::Context as _;
use sagamill::eventstore::EventStore;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::recovery;
use crate::append::load;

/// What such a process is for.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub(crate) enum Task {
    /// Appends single events, and says their rate
    Append { callers: usize, seconds: f64 },
    /// Runs sagas up to a step that does not end, and says when all of them are there
    Hold { sagas: usize, lease_ms: u64 },
}

/// One of them. It is killed when this is dropped.
pub(crate) struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Starts one on a log; returns when it is ready.
    pub(crate) async fn start(task: Task, url: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        match task {
            Task::Append { callers, seconds } => {
                command.args(["append", &callers.to_string(), &seconds.to_string()]);
            }
            Task::Hold { sagas, lease_ms } => {
                command.args(["hold", &sagas.to_string(), &lease_ms.to_string()]);
            }
        }
        let mut child = command
            .env(AS_WORKER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().context("its input is piped")?;
        let answers = child.stdout.take().context("its output is piped")?;
        let mut worker = Self {
            child,
            orders,
            answers: BufReader::new(answers).lines(),
        };
        // Not as an argument, which everybody on the machine may read: there is a password in it.
        worker.tell(url).await?;
        worker.hear().await?;
        Ok(worker)
    }
    pub(crate) async fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(self.orders.write_all(format!("{line}\n").as_bytes()).await?)
    }
    pub(crate) async fn hear(&mut self) -> anyhow::Result<String> {
        self.answers
            .next_line()
            .await?
            .context("a worker ended before it answered")
    }
    /// As a crash would.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        drop(self.orders);
        self.child.wait().await?;
        Ok(())
    }
}

/// The environment variable that says that this process is a worker.
const AS_WORKER: &str = "SAGAMILL_BENCH_WORKER";

/// What a worker's command line says.
#[derive(Debug, clap::Parser)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

/// Does what a worker is for; false: this process is none.
pub(crate) fn run() -> anyhow::Result<bool> {
    if std::env::var_os(AS_WORKER).is_none() {
        return Ok(false);
    }
    let Args { task } = clap::Parser::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let url = order()?;
        match task {
            Task::Append { callers, seconds } => {
                let store = EventStore::connect(&url).await?;
                answer("ready")?;
                order()?;
                let round = std::time::Duration::try_from_secs_f64(seconds)?;
                let sample = load(&store, round, callers, 1).await?;
                store.close().await;
                answer(&sample.rate.to_string())
            }
            Task::Hold { sagas, lease_ms } => recovery::hold(&url, sagas, lease_ms).await,
        }
    })?;
    Ok(true)
}

/// The next line that this worker is told.
fn order() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Says a line to whoever started this worker.
pub(super) fn answer(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    println!("{line}");
    Ok(std::io::stdout().flush()?)
}

//! `sagamill bus` and `sagamill dlq`: messages of a bus, published, watched, counted, and what was given up of them.

mod bench;
pub(crate) mod dead;
mod extent;
mod lag;
mod line;
mod listing;
mod publish;
mod transfer;
mod watch;

use anyhow::Context;
use clap::{Args, Subcommand};
use sagamill::bus::{self, Bus, Order, OrderScope, Start, Subscribe, Topic, limit};
use tokio::io::AsyncReadExt;

use crate::failure::{Code, Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish messages, and say their ids when the bus has confirmed them.
    Pub(publish::Options),
    /// Take messages of a topic as a member of a group, one line each: they count as handled by that group.
    Sub(watch::Options),
    /// Move the messages of a topic to another topic, on the same bus or on another one.
    Move(transfer::Options),
    /// List the topics that are there, with what the broker knows of each.
    Topics(listing::Options),
    /// Say what each group has yet to do: what waits, what is delivered and not settled, and who is there to do it.
    Lag(lag::Options),
    /// Publish messages as fast as it goes and take them again: say how fast that was, and whether one was lost.
    Bench(bench::Options),
}

/// Which bus.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// The bus: `nats://host`, `postgres://user@host/database`, `sqlite:FILE`, or another scheme of this build.
    #[arg(long = "bus", value_name = "URL", env = "SAGAMILL_BUS", hide_env_values = true)]
    url: String,
}

impl Connection {
    async fn open(&self) -> Result<Bus, Failure> {
        open(&self.url).await
    }
}

async fn open(url: &str) -> Result<Bus, Failure> {
    if url.split(':').next() == Some("memory") {
        return Err(Failure::usage(
            "`memory:` is a bus within one process, and this one has just begun: name one that others are at",
        ));
    }
    let connected = sagamill::connect(url).await;
    connected
        .context("cannot connect to the bus")
        .map_err(|error| Failure::new(Code::Unavailable, error))
}

pub(crate) async fn run(command: Command) -> Result<Code, Failure> {
    match command {
        Command::Pub(options) => publish::run(options).await,
        Command::Sub(options) => watch::run(options).await,
        Command::Move(options) => transfer::run(options).await,
        Command::Topics(options) => listing::run(options).await,
        Command::Lag(options) => lag::run(options).await,
        Command::Bench(options) => bench::run(options).await,
    }
}

/// What is asked of a bus by a command that takes messages: in order per key, as far as the bus keeps one.
fn in_order(bus: &Bus, topic: &Topic, group: &str, start: Start) -> Subscribe {
    let scope = bus.capabilities().order_scope.min(OrderScope::Process);
    let request = Subscribe::new(topic.clone(), group).start(start);
    request.order(Order::Key).order_scope(scope)
}

/// A topic to publish to, or whose dead letters are asked for.
fn topic(name: &str) -> Result<Topic, String> {
    let topic = Topic::from(name.to_owned());
    topic.check_name().map(|()| topic).map_err(|error| error.to_string())
}

/// A topic, or a pattern of some.
fn pattern(name: &str) -> Result<Topic, String> {
    let topic = Topic::from(name.to_owned());
    topic.check_pattern().map(|()| topic).map_err(|error| error.to_string())
}

/// What the bus says, with the code that a shell goes by.
fn failure(error: bus::Error) -> Failure {
    let code = match &error {
        bus::Error::NoDeadLetter { .. } => Code::NotFound,
        bus::Error::Disconnected(_) | bus::Error::Unconfirmed(_) => Code::Unavailable,
        bus::Error::InvalidTopic { .. } | bus::Error::InvalidHeader { .. } | bus::Error::TooLarge { .. } => Code::Usage,
        _ => Code::Failure,
    };
    Failure::new(code, error)
}

/// Runs something on a bus, and closes it however that ended: else others wait for what it holds.
async fn on<T>(bus: Bus, work: impl AsyncFnOnce(&Bus) -> Result<T, Failure>) -> Result<T, Failure> {
    let done = work(&bus).await;
    let closed = bus.close().await;
    let done = done?;
    closed.map_err(failure)?;
    Ok(done)
}

/// A payload from stdin; no more of it than shows that it is too large.
async fn read_stdin() -> Result<Vec<u8>, Failure> {
    let mut payload = Vec::new();
    let mut stdin = tokio::io::stdin().take(limit::PAYLOAD as u64 + 1);
    stdin.read_to_end(&mut payload).await.context("cannot read stdin")?;
    Ok(payload)
}

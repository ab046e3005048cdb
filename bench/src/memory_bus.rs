//! Messages through the memory bus, against a bare bounded channel.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use sagamill::bus::{Bus, Message, Subscribe};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    case::Setting,
    load::per_second,
    measure::{Pair, Sample, side_by_side},
};

const TOPIC: &str = "bench";
const PAYLOAD_BYTES: usize = 256;
const KEYS: usize = 64;
/// Messages that are delivered and not settled, and the length of the bare channel.
const IN_FLIGHT: usize = 64;
/// Messages per second of a round.
const MESSAGES_PER_SECOND: f64 = 100_000.0;

/// One publisher, then 64, to one consumer that acks each.
pub(crate) async fn run(setting: &Setting) -> anyhow::Result<Pair> {
    let count = messages(setting.round);
    let one = side_by_side(setting, async || bus(count, 1).await, async || channel(count, 1).await).await?;
    let many = side_by_side(
        setting,
        async || bus(count, 64).await,
        async || channel(count, 64).await,
    )
    .await?;
    if setting.side.is_some() {
        return Ok(one);
    }
    let mut ours = one
        .ours
        .with("publishers_64", many.ours.rate)
        .with("publishers_64_baseline", many.baseline.rate)
        .with("publishers_64_ratio", many.ours.rate / many.baseline.rate);
    match (
        instructions_per_message(Way::Bus),
        instructions_per_message(Way::Channel),
    ) {
        (Ok(bus), Ok(channel)) => {
            ours = ours
                .with("instructions_per_message", bus)
                .with("instructions_per_message_baseline", channel);
        }
        (Err(error), _) | (_, Err(error)) => eprintln!("bus-memory: no instructions per message: {error:#}"),
    }
    Ok(Pair {
        ours,
        baseline: one.baseline,
    })
}

/// What an instruction counter is put around.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    Bus,
    Channel,
}

/// Passes so many messages from one publisher to one consumer, on one thread.
pub(crate) fn pass(way: Way, count: usize) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match way {
            Way::Bus => bus(count, 1).await,
            Way::Channel => channel(count, 1).await,
        }
    })?;
    Ok(())
}

fn messages(round: Duration) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive count far below 2^32"
    )]
    let count = (round.as_secs_f64() * MESSAGES_PER_SECOND) as usize;
    count.max(64).next_multiple_of(64)
}

async fn bus(count: usize, publishers: usize) -> anyhow::Result<Sample> {
    let bus = Bus::memory();
    let mut request = Subscribe::new(TOPIC, "bench");
    request.max_in_flight = IN_FLIGHT;
    let mut deliveries = bus.subscribe(request).await?;
    let started = Instant::now();
    let consumer = tokio::spawn(async move {
        let mut seen = Seen::new(count);
        while !seen.all() {
            let delivery = deliveries.next().await.context("the subscription ended")??;
            seen.note(&delivery.message)?;
            delivery.ack().await?;
        }
        anyhow::Ok(())
    });
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    for first in 0..publishers {
        let bus = bus.clone();
        tasks.spawn(async move {
            for number in (first..count).step_by(publishers) {
                bus.publish_to(TOPIC, [message(number)]).await?;
            }
            Ok(())
        });
    }
    joined(tasks).await?;
    consumer.await??;
    let sample = Sample::new(per_second(count, started.elapsed()), count, Vec::new());
    bus.close().await?;
    Ok(sample)
}

async fn channel(count: usize, publishers: usize) -> anyhow::Result<Sample> {
    let (sender, mut receiver) = mpsc::channel(IN_FLIGHT);
    let started = Instant::now();
    let consumer = tokio::spawn(async move {
        let mut seen = Seen::new(count);
        while !seen.all() {
            seen.note(&receiver.recv().await.context("the channel ended")?)?;
        }
        anyhow::Ok(())
    });
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    for first in 0..publishers {
        let sender = sender.clone();
        tasks.spawn(async move {
            for number in (first..count).step_by(publishers) {
                sender.send(message(number)).await?;
            }
            Ok(())
        });
    }
    joined(tasks).await?;
    consumer.await??;
    Ok(Sample::new(per_second(count, started.elapsed()), count, Vec::new()))
}

async fn joined(mut tasks: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(())
}

/// A message that carries its number.
fn message(number: usize) -> Message {
    let mut payload = vec![7; PAYLOAD_BYTES];
    payload[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Message::new(payload).key(number % KEYS)
}

/// Which numbers came; each must come once.
struct Seen {
    numbers: Vec<bool>,
    missing: usize,
}

impl Seen {
    fn new(count: usize) -> Self {
        Self {
            numbers: vec![false; count],
            missing: count,
        }
    }
    fn all(&self) -> bool {
        self.missing == 0
    }
    fn note(&mut self, message: &Message) -> anyhow::Result<()> {
        let bytes = message
            .payload
            .first_chunk::<8>()
            .context("a message without a number")?;
        let number = usize::try_from(u64::from_le_bytes(*bytes))?;
        let seen = self.numbers.get_mut(number).context("a number that nobody sent")?;
        ensure!(!std::mem::replace(seen, true), "message {number} came twice");
        self.missing -= 1;
        Ok(())
    }
}

/// Instructions per message as an instruction counter sees them: stable where times are not.
fn instructions_per_message(way: Way) -> anyhow::Result<f64> {
    const FEW: u32 = 2_000;
    const MANY: u32 = 22_000;
    let counter = if perf(way, FEW).is_ok() { perf } else { valgrind };
    let (few, many) = (counter(way, FEW)?, counter(way, MANY)?);
    Ok((many - few) / f64::from(MANY - FEW))
}

fn perf(way: Way, messages: u32) -> anyhow::Result<f64> {
    let report = run_under("perf", &["stat", "-x", ",", "-e", "instructions:u"], way, messages)?;
    let count = report.lines().find_map(|line| line.split_once(',')?.0.parse().ok());
    count.context("perf counts no instructions on this machine")
}

fn valgrind(way: Way, messages: u32) -> anyhow::Result<f64> {
    let quiet = "--cachegrind-out-file=/dev/null";
    let report = run_under(
        "valgrind",
        &["--tool=cachegrind", "--cache-sim=no", quiet],
        way,
        messages,
    )?;
    let count = report
        .lines()
        .find(|line| line.contains("refs:"))
        .and_then(|line| line.split_once("refs:"));
    Ok(count
        .context("valgrind counts no instructions")?
        .1
        .trim()
        .replace(',', "")
        .parse()?)
}

fn run_under(program: &str, args: &[&str], way: Way, messages: u32) -> anyhow::Result<String> {
    let way = if way == Way::Bus { "bus" } else { "channel" };
    let output = Command::new(program)
        .args(args)
        .arg(std::env::current_exe()?)
        .args(["--pass", way, "--messages", &messages.to_string()])
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    ensure!(output.status.success(), "{program} failed");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

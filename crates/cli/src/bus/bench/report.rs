//! What a bench has to say.

use std::{io::Write, time::Duration};

use sagamill::bus::Error;
use serde::Serialize;

use super::{Options, load::Published, tally::Tally};
use crate::{
    failure::{Code, Failure},
    output::{ItemFormat, json_line, stdout},
};

/// So many of the lost are named.
const NAMED: usize = 10;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    transport: &'static str,
    topic: String,
    messages: u32,
    size: u32,
    publishers: u32,
    batch: u32,
    /// Messages that the bus has confirmed.
    confirmed: u32,
    publish_seconds: f64,
    published_per_second: f64,
    /// Messages that came, each counted once.
    consumed: usize,
    consume_seconds: f64,
    consumed_per_second: f64,
    /// From when a message was handed to the bus until it was delivered.
    latency_p50_ms: Option<f64>,
    latency_p99_ms: Option<f64>,
    lost: usize,
    doubled: u64,
    /// Messages on the topic that are not of this run.
    strangers: u64,
    #[serde(skip)]
    first_lost: Vec<u32>,
}

impl Report {
    pub(super) fn new(options: &Options, transport: &'static str, published: &Published, mut tally: Tally) -> Self {
        let first_lost = tally.lost(&published.failed).take(NAMED).collect();
        let lost = tally.lost(&published.failed).count();
        let (confirmed, consumed) = (published.confirmed(), tally.different());
        let per_second = |count: f64, time: Duration| {
            if time.is_zero() {
                0.0
            } else {
                count / time.as_secs_f64()
            }
        };
        let millis = |time: Duration| time.as_micros() as f64 / 1_000.0;
        Self {
            transport,
            topic: options.topic.to_string(),
            messages: options.messages,
            size: options.size,
            publishers: options.publishers,
            batch: options.batch,
            confirmed,
            publish_seconds: published.took.as_secs_f64(),
            published_per_second: per_second(f64::from(confirmed), published.took),
            consumed,
            consume_seconds: tally.last().as_secs_f64(),
            consumed_per_second: per_second(consumed as f64, tally.last()),
            latency_p50_ms: tally.percentile(50).map(millis),
            latency_p99_ms: tally.percentile(99).map(millis),
            lost,
            doubled: tally.doubled(),
            strangers: tally.strangers(),
            first_lost,
        }
    }
    /// Says it, and whether that is well. A message may come twice, and none may be lost.
    pub(super) fn tell(&self, format: ItemFormat, error: Option<&Error>) -> Result<Code, Failure> {
        let mut out = stdout();
        match format {
            ItemFormat::Json => json_line(&mut out, self)?,
            ItemFormat::Table => self.write(&mut out)?,
        }
        out.flush()?;
        if self.strangers > 0 {
            eprintln!(
                "{} messages on `{}` are of another run: where one runs now, it has lost them; give each a --topic of its own",
                self.strangers, self.topic
            );
        }
        if self.lost > 0 {
            eprintln!(
                "{} messages were confirmed on `{}` and did not come, the first of them {:?}: look at the broker's log, or wait longer with --idle",
                self.lost, self.topic, self.first_lost
            );
            return Ok(Code::Unverified);
        }
        if let Some(error) = error {
            let failed = self.messages - self.confirmed;
            eprintln!("{failed} messages were not confirmed, the first because {error}");
            return Ok(Code::Partial);
        }
        Ok(Code::Success)
    }
    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let latency = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
        writeln!(
            out,
            "{} messages of {} bytes on `{}`, over {}",
            self.messages, self.size, self.topic, self.transport
        )?;
        writeln!(
            out,
            "  published  {:.0}/s in {:.2} s, by {} publishers, {} together",
            self.published_per_second, self.publish_seconds, self.publishers, self.batch
        )?;
        writeln!(
            out,
            "  consumed   {:.0}/s in {:.2} s",
            self.consumed_per_second, self.consume_seconds
        )?;
        let (p50, p99) = (latency(self.latency_p50_ms), latency(self.latency_p99_ms));
        writeln!(out, "  latency    p50 {p50}, p99 {p99}")?;
        writeln!(out, "  lost {}, doubled {}", self.lost, self.doubled)
    }
}

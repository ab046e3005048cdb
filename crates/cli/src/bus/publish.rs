//! `bus pub`: messages from the command line or from stdin, to a topic.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use sagamill::bus::{Bus, Message, MessageId, Receipt, Topic, headers::name};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use uuid::Uuid;

use super::{Connection, failure, on, read_stdin, topic};
use crate::{
    failure::{Code, Failure},
    output::{json_line, stdout},
};

/// Lines that are published together.
const BATCH: usize = 256;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// Where to.
    #[arg(value_parser = topic)]
    topic: Topic,
    /// The payload; from stdin where it is left out.
    #[arg(conflicts_with = "lines")]
    payload: Option<String>,
    /// Each line of stdin is a message.
    #[arg(long, conflicts_with = "id")]
    lines: bool,
    /// Messages of one key are handled in order.
    #[arg(long)]
    key: Option<String>,
    /// The name of the event or command, as handlers look for it.
    #[arg(long = "type", value_name = "NAME")]
    name: Option<String>,
    /// A header. May be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The message's id; a new one where it is left out.
    #[arg(long, value_name = "UUID")]
    id: Option<Uuid>,
    /// Fail where no group is subscribed.
    #[arg(long)]
    mandatory: bool,
    /// How what was published looks: one id a line, or one object.
    #[arg(short, long, value_name = "FORMAT", default_value = "ids")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Ids,
    Json,
}

#[derive(Debug, Serialize)]
struct Published<'a> {
    topic: &'a str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

pub(super) async fn run(options: Options) -> Result<Code, Failure> {
    let bus = options.connection.open().await?;
    on(bus, async |bus| options.publish(bus).await).await
}

impl Options {
    async fn publish(&self, bus: &Bus) -> Result<Code, Failure> {
        if self.lines {
            return self.publish_lines(bus).await;
        }
        let payload = match &self.payload {
            Some(payload) => payload.clone().into_bytes(),
            None => read_stdin().await?,
        };
        self.send(bus, vec![self.message(payload)]).await?;
        Ok(Code::Success)
    }
    async fn publish_lines(&self, bus: &Bus) -> Result<Code, Failure> {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        let mut batch = Vec::with_capacity(BATCH);
        let mut number = 0_u64;
        while let Some(line) = lines.next_line().await.context("cannot read stdin")? {
            number += 1;
            batch.push(self.message(line.into_bytes()));
            if batch.len() == BATCH {
                self.send(bus, std::mem::take(&mut batch)).await?;
            }
        }
        self.send(bus, batch).await?;
        eprintln!("published {number} messages");
        Ok(Code::Success)
    }
    fn message(&self, payload: Vec<u8>) -> Message {
        let mut message = Message::new(payload);
        if let Some(id) = self.id {
            message = message.id(MessageId(id));
        }
        if let Some(key) = &self.key {
            message = message.key(key);
        }
        if let Some(name) = &self.name {
            message.headers.set(name::TYPE, name.clone());
        }
        for (name, value) in &self.headers {
            message.headers.set(name.clone(), value.clone());
        }
        if self.mandatory {
            message.headers.set(name::MANDATORY, "1");
        }
        message
    }
    /// Says what was confirmed, also where something after it was not.
    async fn send(&self, bus: &Bus, batch: Vec<Message>) -> Result<(), Failure> {
        let ids: Vec<MessageId> = batch.iter().map(|message| message.id).collect();
        let results = bus.publish_each(&self.topic, batch).await;
        let mut out = stdout();
        let mut failed = None;
        for (id, result) in ids.into_iter().zip(results) {
            match result {
                Ok(Receipt { sequence, .. }) => self.say(&mut out, id, sequence)?,
                Err(error) => failed = failed.or(Some((id, error))),
            }
        }
        out.flush()?;
        match failed {
            None => Ok(()),
            Some((id, error)) => {
                eprintln!("message {id} was not published; those whose ids are listed were");
                Err(failure(error))
            }
        }
    }
    fn say(&self, out: &mut impl Write, id: MessageId, sequence: Option<u64>) -> std::io::Result<()> {
        let (topic, id) = (self.topic.as_ref(), id.to_string());
        match self.output {
            Format::Ids => writeln!(out, "{id}"),
            Format::Json => json_line(out, &Published { topic, id, sequence }),
        }
    }
}

//! `dlq`: messages that groups gave up, to be read, put back or thrown away.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Subcommand};
use sagamill::bus::{Bus, DeadLetter, DeadLetters, Death, Error, MessageId, Topic};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use uuid::Uuid;

use super::{Connection, failure, line::MessageLine, on, topic};
use crate::{
    failure::{Code, Failure},
    output::{ItemFormat, ListFormat, json_line, plain, stdout, table},
};

/// Dead letters that are read at a time.
const PAGE: usize = 256;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the topics and groups that have dead letters, or those of one topic and group.
    List(List),
    /// Show one, with its message and how it was given up.
    Show(Show),
    /// Give messages to their group again, as new: same id, attempts from one.
    Requeue(Requeue),
    /// Throw messages away for good.
    Discard(Discard),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    connection: Connection,
    /// The topic they were published to.
    #[arg(requires = "group", value_parser = topic)]
    topic: Option<Topic>,
    /// The group that gave them up.
    group: Option<String>,
    /// At most so many, the oldest first.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// How it looks. Ids are to be had of one topic and group.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    connection: Connection,
    /// The topic it was published to.
    #[arg(value_parser = topic)]
    topic: Topic,
    /// The group that gave it up.
    group: String,
    /// The message's id.
    id: Uuid,
    /// How it looks.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ItemFormat,
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    #[command(flatten)]
    connection: Connection,
    /// The topic they were published to.
    #[arg(value_parser = topic)]
    topic: Topic,
    /// The group that gave them up.
    group: String,
    /// The messages' ids; `-` reads them from stdin, one a line.
    #[arg(required_unless_present = "all", conflicts_with = "all", value_parser = id)]
    ids: Vec<Id>,
    /// All that are there now.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Requeue {
    #[command(flatten)]
    which: Which,
    /// A file with another payload for the one message that is named; `-` reads it from stdin.
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    payload: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Discard {
    #[command(flatten)]
    which: Which,
    /// Without being asked back.
    #[arg(long)]
    yes: bool,
}

/// An id, or the word that more of them come from stdin.
#[derive(Debug, Clone, Copy)]
enum Id {
    Of(MessageId),
    Stdin,
}

fn id(text: &str) -> Result<Id, String> {
    if text == "-" {
        return Ok(Id::Stdin);
    }
    Uuid::try_parse(text)
        .map(|id| Id::Of(MessageId(id)))
        .map_err(|error| error.to_string())
}

pub(crate) async fn run(command: Command) -> Result<Code, Failure> {
    match command {
        Command::List(options) => {
            let bus = options.connection.open().await?;
            on(bus, async |bus| options.list(bus).await).await
        }
        Command::Show(options) => {
            let bus = options.connection.open().await?;
            on(bus, async |bus| options.show(bus).await).await
        }
        Command::Requeue(Requeue { which, payload: None }) => {
            let bus = which.connection.open().await?;
            on(bus, async |bus| which.each(bus, &Verb::Requeue).await).await
        }
        Command::Requeue(Requeue {
            which,
            payload: Some(file),
        }) => {
            let [Id::Of(_)] = which.ids.as_slice() else {
                return Err(Failure::usage("a payload is for one message: name its id"));
            };
            let verb = Verb::Edit(read(&file).await?);
            let bus = which.connection.open().await?;
            on(bus, async |bus| which.each(bus, &verb).await).await
        }
        Command::Discard(Discard { which, yes: true }) => {
            let bus = which.connection.open().await?;
            on(bus, async |bus| which.each(bus, &Verb::Discard).await).await
        }
        Command::Discard(_) => Err(Failure::usage(
            "a message that is discarded is gone for good: say --yes as well",
        )),
    }
}

#[derive(Debug, Serialize)]
struct QueueRow {
    topic: String,
    group: String,
    count: usize,
}

/// A dead letter in a list.
#[derive(Debug, Serialize)]
struct Row<'a> {
    position: u64,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    attempts: u32,
    reason: &'a str,
    age_ms: u128,
}

impl<'a> Row<'a> {
    fn of(letter: &'a DeadLetter) -> Self {
        Self {
            position: letter.position,
            id: letter.message.id.to_string(),
            key: letter.message.key.as_ref().map(|key| key.0.as_ref()),
            attempts: letter.last.attempts,
            reason: &letter.last.reason,
            age_ms: letter.age.as_millis(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    group: &'a str,
    history: Vec<DeathRow<'a>>,
    message: MessageLine<'a>,
}

#[derive(Debug, Serialize)]
struct DeathRow<'a> {
    attempts: u32,
    reason: &'a str,
}

impl<'a> From<&'a Death> for DeathRow<'a> {
    fn from(death: &'a Death) -> Self {
        Self {
            attempts: death.attempts,
            reason: &death.reason,
        }
    }
}

impl List {
    async fn list(&self, bus: &Bus) -> Result<Code, Failure> {
        match (&self.topic, &self.group) {
            (Some(topic), Some(group)) => self.letters(bus, topic, group).await,
            _ if self.output == ListFormat::Ids => Err(Failure::usage("name a topic and a group to get ids")),
            _ => self.queues(bus).await,
        }
    }
    async fn queues(&self, bus: &Bus) -> Result<Code, Failure> {
        let queues = bus.dead_letter_queues().await.map_err(failure)?;
        let rows = queues.into_iter().map(|queue| QueueRow {
            topic: queue.topic.to_string(),
            group: queue.group,
            count: queue.count,
        });
        let rows: Vec<QueueRow> = rows.take(self.limit).collect();
        let mut out = stdout();
        if self.output == ListFormat::Json {
            json_line(&mut out, &rows)?;
        } else {
            let cells = rows
                .into_iter()
                .map(|row| vec![row.topic, row.group, row.count.to_string()]);
            out.write_all(table(&["TOPIC", "GROUP", "DEAD"], cells).as_bytes())?;
        }
        out.flush()?;
        Ok(Code::Success)
    }
    async fn letters(&self, bus: &Bus, topic: &Topic, group: &str) -> Result<Code, Failure> {
        let dead = bus.dead_letters(topic.clone(), group).map_err(failure)?;
        let letters = dead.list(None, self.limit).await.map_err(failure)?;
        let rows = letters.iter().map(Row::of);
        let mut out = stdout();
        match self.output {
            ListFormat::Json => json_line(&mut out, &rows.collect::<Vec<_>>())?,
            ListFormat::Ids => rows.into_iter().try_for_each(|row| writeln!(out, "{}", row.id))?,
            ListFormat::Table => {
                let cells = rows.map(|row| {
                    let age = format!("{} s", row.age_ms / 1_000);
                    let (attempts, key) = (row.attempts.to_string(), row.key.unwrap_or_default().to_owned());
                    vec![row.id, key, attempts, age, row.reason.to_owned()]
                });
                out.write_all(table(&["ID", "KEY", "ATTEMPTS", "AGE", "REASON"], cells).as_bytes())?;
            }
        }
        out.flush()?;
        Ok(Code::Success)
    }
}

impl Show {
    async fn show(&self, bus: &Bus) -> Result<Code, Failure> {
        let dead = bus
            .dead_letters(self.topic.clone(), self.group.as_str())
            .map_err(failure)?;
        let letter = dead.get(MessageId(self.id)).await.map_err(failure)?;
        let detail = Detail {
            row: Row::of(&letter),
            group: &self.group,
            history: letter.history.iter().map(DeathRow::from).collect(),
            message: MessageLine::of(self.topic.as_ref(), &letter.message),
        };
        let mut out = stdout();
        match self.output {
            ItemFormat::Json => json_line(&mut out, &detail)?,
            ItemFormat::Table => write_letter(&mut out, &letter)?,
        }
        out.flush()?;
        Ok(Code::Success)
    }
}

fn write_letter(out: &mut impl Write, letter: &DeadLetter) -> std::io::Result<()> {
    let message = &letter.message;
    writeln!(out, "{}", message.id)?;
    if let Some(key) = &message.key {
        writeln!(out, "  key       {}", plain(&key.0))?;
    }
    writeln!(out, "  given up  {} s ago", letter.age.as_secs())?;
    for death in letter.history.iter().chain([&letter.last]) {
        let attempts = if death.attempts == 1 { "attempt" } else { "attempts" };
        writeln!(out, "  after {} {attempts}: {}", death.attempts, plain(&death.reason))?;
    }
    for (name, value) in message.headers.iter() {
        writeln!(out, "  {}: {}", plain(name), plain(value))?;
    }
    writeln!(out, "  {} bytes", message.payload.len())?;
    match std::str::from_utf8(&message.payload) {
        Ok(text) => writeln!(out, "{}", plain(text)),
        Err(_) => writeln!(out, "  (not text: -o json shows them in base64)"),
    }
}

/// What is done to each.
#[derive(Debug)]
enum Verb {
    Requeue,
    /// Requeue with this payload.
    Edit(Vec<u8>),
    Discard,
}

impl Verb {
    async fn carry_out(&self, dead: &DeadLetters, id: MessageId) -> Result<(), Error> {
        match self {
            Self::Requeue => dead.requeue(id).await,
            Self::Edit(payload) => dead.requeue_edited(id, payload.clone()).await,
            Self::Discard => dead.discard(id).await,
        }
    }
    fn done(&self) -> &'static str {
        match self {
            Self::Requeue | Self::Edit(_) => "requeued",
            Self::Discard => "discarded",
        }
    }
}

impl Which {
    /// Goes on past one that fails, and tells of each.
    async fn each(&self, bus: &Bus, verb: &Verb) -> Result<Code, Failure> {
        let dead = bus
            .dead_letters(self.topic.clone(), self.group.as_str())
            .map_err(failure)?;
        let ids = if self.all {
            all(&dead).await?
        } else {
            self.named().await?
        };
        let (mut done, mut last) = (0_usize, None);
        for &id in &ids {
            match verb.carry_out(&dead, id).await {
                Ok(()) => done += 1,
                Err(error) => {
                    eprintln!("{id}: {error}");
                    last = Some(error);
                }
            }
        }
        eprintln!("{} {done} of {}", verb.done(), ids.len());
        match last {
            None => Ok(Code::Success),
            Some(_) if done > 0 => Ok(Code::Partial),
            Some(error) => Err(failure(error)),
        }
    }
    async fn named(&self) -> Result<Vec<MessageId>, Failure> {
        let mut ids = Vec::new();
        for named in &self.ids {
            match named {
                Id::Of(id) => ids.push(*id),
                Id::Stdin => {
                    let mut lines = BufReader::new(tokio::io::stdin()).lines();
                    while let Some(line) = lines.next_line().await? {
                        let id = Uuid::try_parse(line.trim())
                            .map_err(|error| Failure::usage(format!("stdin: `{}`: {error}", plain(&line))))?;
                        ids.push(MessageId(id));
                    }
                }
            }
        }
        Ok(ids)
    }
}

/// A file, or stdin.
async fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    if file == Path::new("-") {
        return super::read_stdin().await;
    }
    let bytes = tokio::fs::read(file).await;
    Ok(bytes.with_context(|| format!("cannot read {}", file.display()))?)
}

/// Those that are there now, read before any is put back: what dies again meanwhile is not among them.
async fn all(dead: &DeadLetters) -> Result<Vec<MessageId>, Failure> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = dead.list(after, PAGE).await.map_err(failure)?;
        let Some(last) = page.last() else { return Ok(ids) };
        after = Some(last.position);
        ids.extend(page.iter().map(|letter| letter.message.id));
    }
}

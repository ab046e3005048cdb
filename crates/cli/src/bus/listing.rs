//! `bus topics`: which topics are there, and what lies in them.

use std::io::Write;

use clap::Args;
use sagamill::bus::{Bus, TopicInfo};
use serde::Serialize;

use super::{Connection, failure, lag::told, on};
use crate::{
    failure::{Code, Failure},
    output::{ListFormat, json_line, plain, stdout, table},
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// How it looks. What the broker does not tell is `-`, in JSON null.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

/// A topic in one line.
#[derive(Debug, Serialize)]
struct Row<'a> {
    topic: &'a str,
    messages: Option<u64>,
    partitions: Option<u32>,
    first: Option<u64>,
    last: Option<u64>,
}

impl<'a> From<&'a TopicInfo> for Row<'a> {
    fn from(info: &'a TopicInfo) -> Self {
        Self {
            topic: info.topic.as_ref(),
            messages: info.messages,
            partitions: info.partitions,
            first: info.first,
            last: info.last,
        }
    }
}

pub(super) async fn run(options: Options) -> Result<Code, Failure> {
    let bus = options.connection.open().await?;
    on(bus, async |bus| options.list(bus).await).await
}

impl Options {
    async fn list(&self, bus: &Bus) -> Result<Code, Failure> {
        let topics = bus.topics().await.map_err(failure)?;
        let rows: Vec<Row<'_>> = topics.iter().map(Row::from).collect();
        let mut out = stdout();
        match self.output {
            ListFormat::Json => json_line(&mut out, &rows)?,
            ListFormat::Ids => rows.iter().try_for_each(|row| writeln!(out, "{}", plain(row.topic)))?,
            ListFormat::Table => {
                let cells = rows.iter().map(|row| {
                    let numbers = [row.messages, row.partitions.map(u64::from), row.first, row.last];
                    [row.topic.to_owned()].into_iter().chain(numbers.map(told)).collect()
                });
                out.write_all(table(&["TOPIC", "MESSAGES", "PARTITIONS", "FIRST", "LAST"], cells).as_bytes())?;
            }
        }
        out.flush()?;
        Ok(Code::Success)
    }
}

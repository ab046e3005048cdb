//! `bus lag`: what each group has yet to do.

use std::io::Write;

use clap::Args;
use sagamill::bus::{Bus, Lag, LagOf, Topic};
use serde::Serialize;

use super::{Connection, failure, on, pattern};
use crate::{
    failure::{Code, Failure},
    output::{json_line, stdout, table},
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// Only subscriptions to this topic, to one that this pattern covers, or to a pattern that covers it.
    #[arg(value_parser = pattern)]
    topic: Option<Topic>,
    /// Only this group's.
    group: Option<String>,
    /// How it looks. What the broker does not tell is `-`, in JSON null.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// One array.
    Json,
}

/// A subscription in one line.
#[derive(Debug, Serialize)]
struct Row<'a> {
    topic: &'a str,
    group: &'a str,
    unsettled: Option<u64>,
    waiting: Option<u64>,
    delivered: Option<u64>,
    members: Option<u64>,
}

impl<'a> From<&'a Lag> for Row<'a> {
    fn from(lag: &'a Lag) -> Self {
        Self {
            topic: lag.topic.as_ref(),
            group: &lag.group,
            unsettled: lag.unsettled,
            waiting: lag.waiting,
            delivered: lag.delivered,
            members: lag.members,
        }
    }
}

/// A number of the broker's, or that it tells none.
pub(super) fn told(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

pub(super) async fn run(options: Options) -> Result<Code, Failure> {
    let bus = options.connection.open().await?;
    on(bus, async |bus| options.list(bus).await).await
}

impl Options {
    async fn list(&self, bus: &Bus) -> Result<Code, Failure> {
        let lags = bus.lag(self.asked()).await.map_err(failure)?;
        if let (Some(topic), Some(group), []) = (&self.topic, &self.group, lags.as_slice()) {
            return Err(Failure::not_found(format!(
                "the group `{group}` has never subscribed to `{topic}`: look for its name and its topic where its service subscribes"
            )));
        }
        let rows: Vec<Row<'_>> = lags.iter().map(Row::from).collect();
        let mut out = stdout();
        match self.output {
            Format::Json => json_line(&mut out, &rows)?,
            Format::Table => {
                let header = ["TOPIC", "GROUP", "UNSETTLED", "WAITING", "DELIVERED", "MEMBERS"];
                let cells = rows.iter().map(|row| {
                    let names = [row.topic.to_owned(), row.group.to_owned()];
                    let numbers = [row.unsettled, row.waiting, row.delivered, row.members];
                    names.into_iter().chain(numbers.map(told)).collect()
                });
                out.write_all(table(&header, cells).as_bytes())?;
            }
        }
        out.flush()?;
        Ok(Code::Success)
    }
    fn asked(&self) -> LagOf {
        let mut of = LagOf::all();
        if let Some(topic) = &self.topic {
            of = of.topic(topic.clone());
        }
        match &self.group {
            Some(group) => of.group(group),
            None => of,
        }
    }
}

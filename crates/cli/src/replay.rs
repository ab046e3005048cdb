//! `sagamill replay`: the log again, to stdout.

use std::io::Write;

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::{ArgGroup, Args, ValueEnum};
use jiff::Timestamp;
use sagamill::eventstore::{Position, Read, Recorded};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    failure::{Code, Failure},
    output::{LineFormat, json_line, one_line, stdout},
    source::Source,
};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["all", "stream"]))]
pub(crate) struct Options {
    #[command(flatten)]
    source: Source,
    /// The whole log, in commit order.
    #[arg(long)]
    all: bool,
    /// One stream.
    #[arg(long)]
    stream: Option<String>,
    /// Where to.
    #[arg(long, default_value = "stdout")]
    to: Sink,
    /// How an event looks.
    #[arg(short, long, value_name = "FORMAT", default_value = "json")]
    output: LineFormat,
    /// From this position on.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i64).range(0..))]
    from_position: i64,
    /// Up to this position.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    to_position: Option<i64>,
    /// Only events of this type; `*` stands for any characters. May be given several times.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// At most so many events.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sink {
    Stdout,
}

#[derive(Debug, Serialize)]
struct EventLine<'a> {
    position: Position,
    stream: &'a str,
    version: i64,
    #[serde(rename = "type")]
    name: &'a str,
    id: Uuid,
    time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation: Option<Uuid>,
}

pub(crate) async fn run(options: Options) -> Result<Code, Failure> {
    let (Sink::Stdout, LineFormat::Json) = (options.to, options.output);
    let store = options.source.open().await?;
    let mut events: Read = match &options.stream {
        Some(stream) => store.read(stream.as_str()),
        None => store.read_all(),
    };
    events = events.from(Position(options.from_position));
    if let Some(to) = options.to_position {
        events = events.to(Position(to));
    }
    let mut left = options.limit.unwrap_or(usize::MAX);
    let mut out = stdout();
    while left > 0
        && let Some(recorded) = events.next().await
    {
        let recorded = recorded?;
        if wanted(&options.types, &recorded.name) {
            write(&mut out, &recorded)?;
            left -= 1;
        }
    }
    out.flush()?;
    Ok(Code::Success)
}

fn write(out: &mut impl Write, recorded: &Recorded) -> std::io::Result<()> {
    let text = one_line(&recorded.event);
    let data = text.as_deref().and_then(|text| serde_json::from_str(text).ok());
    json_line(
        out,
        &EventLine {
            position: recorded.position,
            stream: recorded.stream.as_str(),
            version: recorded.version.0,
            name: &recorded.name,
            id: recorded.id,
            time: recorded.at,
            data,
            data_base64: data.is_none().then(|| BASE64_STANDARD.encode(&recorded.event)),
            correlation: recorded.correlation,
            causation: recorded.causation,
        },
    )
}

fn wanted(patterns: &[String], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, name))
}

/// `*` stands for any characters; all else for itself.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut rest) = name.strip_prefix(head) else {
        return false;
    };
    let parts: Vec<_> = tail.split('*').collect();
    let (last, middle) = parts.split_last().expect("invariant: a split has at least one part");
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_stands_for_any_characters() {
        for (pattern, name, holds) in [
            ("order.placed", "order.placed", true),
            ("order.placed", "order.placed2", false),
            ("order.*", "order.placed", true),
            ("*", "", true),
            ("*.done", "saga.step-done", false),
            ("saga.*-done", "saga.step-done", true),
            ("*step*", "saga.step-done", true),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("a*b*c", "a-c-b", false),
        ] {
            assert_eq!(matches(pattern, name), holds, "{pattern} {name}");
        }
    }

    #[test]
    fn payload_with_line_breaks_stays_one_line() {
        let mut recorded = recorded(b"{\n \"a\":\r\n 1.10 }");
        let mut out = Vec::new();
        write(&mut out, &recorded).unwrap();
        recorded.event = vec![0xff, 0xfe].into();
        write(&mut out, &recorded).unwrap();
        let lines: Vec<_> = std::str::from_utf8(&out).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains(r#""data":{  "a":   1.10 }"#), "{}", lines[0]);
        assert!(lines[1].contains(r#""data_base64":"//4=""#), "{}", lines[1]);
    }

    fn recorded(payload: &'static [u8]) -> Recorded {
        Recorded {
            position: Position(1),
            stream: "order-1".into(),
            version: sagamill::eventstore::Version(1),
            at: Timestamp::UNIX_EPOCH,
            id: Uuid::nil(),
            name: "order.placed".to_owned(),
            schema: 1,
            topic: None,
            key: None,
            correlation: None,
            causation: None,
            headers: sagamill::bus::Headers::new(),
            event: payload.into(),
        }
    }
}

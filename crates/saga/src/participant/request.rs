//! A command as it travels, read into an ask.

use bytes::Bytes;
use jiff::Timestamp;
use sagamill_bus::{Headers, Message, Topic, headers::name};
use uuid::Uuid;

use crate::barrier::{self, Ask, ReplyTo};
use crate::wire;

/// An attribute of a command that is missing, or is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("the command's attribute `{attribute}` {problem}")]
pub(crate) struct Malformed {
    attribute: &'static str,
    problem: String,
}

/// The attributes that a reply echoes.
const ECHOED: [&str; 11] = [
    wire::SAGA,
    wire::DEFINITION,
    wire::DEFINITION_VERSION,
    wire::KEY,
    wire::STEP,
    wire::PHASE,
    wire::GROUP,
    wire::ITERATION,
    wire::ROUND,
    wire::ATTEMPT,
    wire::EFFECT,
];

/// Reads the attributes; the payload is the handler's matter.
pub(crate) fn read(message: &Message) -> Result<Ask, Malformed> {
    let headers = &message.headers;
    let phase = barrier::phase(headers.get(wire::PHASE).unwrap_or(wire::FORWARD));
    Ok(Ask {
        effect: parse(headers, wire::EFFECT)?,
        phase: phase.ok_or_else(|| malformed(wire::PHASE, "is neither forward nor compensate"))?,
        command_name: required(headers, name::TYPE)?.to_owned(),
        command: Bytes::clone(&message.payload),
        definition: required(headers, wire::DEFINITION)?.to_owned(),
        saga: parse(headers, wire::SAGA)?,
        saga_key: required(headers, wire::KEY)?.to_owned(),
        step: required(headers, wire::STEP)?.to_owned(),
        attempt: parse(headers, wire::ATTEMPT)?,
        not_after: headers
            .get(name::EXPIRY)
            .map(|_| parse::<Timestamp>(headers, name::EXPIRY))
            .transpose()?,
        reply_to: Some(ReplyTo {
            topic: Topic::from(required(headers, wire::REPLY_TO)?.to_owned()),
            message: message.id,
            correlation: headers.get(name::CORRELATION).and_then(|id| id.parse::<Uuid>().ok()),
            headers: echo(headers),
        }),
    })
}

fn echo(headers: &Headers) -> Headers {
    let traced = ECHOED.into_iter().chain([name::TRACEPARENT]);
    let mut echo: Headers = traced.filter_map(|name| Some((name, headers.get(name)?))).collect();
    echo.set(name::CONTENT_TYPE, "application/json");
    echo
}

fn required<'a>(headers: &'a Headers, attribute: &'static str) -> Result<&'a str, Malformed> {
    headers.get(attribute).ok_or_else(|| malformed(attribute, "is missing"))
}
fn parse<T: std::str::FromStr<Err: ToString>>(headers: &Headers, attribute: &'static str) -> Result<T, Malformed> {
    let value = required(headers, attribute)?;
    value
        .parse()
        .map_err(|error: T::Err| malformed(attribute, &format!("cannot be read: {}", error.to_string())))
}
fn malformed(attribute: &'static str, problem: &str) -> Malformed {
    Malformed {
        attribute,
        problem: problem.to_owned(),
    }
}

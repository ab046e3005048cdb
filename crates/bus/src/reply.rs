//! What travels back to whoever has asked: an answer, or that there will be none.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Answer, BoxError, Error, HandlerError, IntoAnswer, Message, MessageId, Result, Topic, headers::name,
    settlement::caused_by,
};

/// The `ce-type` of every reply.
const TYPE: &str = "sagamill.reply";
const DONE: &str = "done";
const REJECTED: &str = "rejected";
const FAILED: &str = "failed";

/// What a reply says.
#[derive(Debug)]
pub(crate) enum Reply<T, R> {
    Answered(Answer<T, R>),
    /// The command was given up.
    Failed(String),
}

#[derive(Serialize, Deserialize)]
struct Failure {
    error: String,
}

/// The handler's answer to a command, where somebody waits for it; or the handler's error.
pub(crate) fn answer<A: IntoAnswer>(
    command: &Message,
    origin: &str,
    answer: A,
) -> Result<Option<(Topic, Message)>, BoxError> {
    let answer = answer.into_answer()?;
    let Some(topic) = asker(command) else { return Ok(None) };
    let (outcome, payload) = match answer {
        Answer::Done(reply) => (DONE, serde_json::to_vec(&reply)),
        Answer::Rejected(rejection) => (REJECTED, serde_json::to_vec(&rejection)),
    };
    // What cannot be written now cannot be written later.
    let payload = payload.map_err(|e| HandlerError::permanent(Error::Codec(e.into())))?;
    Ok(Some((topic, message(command, origin, outcome, payload))))
}

/// That a command was given up, where somebody waits for its answer.
pub(crate) fn failure(command: &Message, origin: &str, why: &str) -> Option<(Topic, Message)> {
    let topic = asker(command)?;
    let failure = Failure { error: why.to_owned() };
    let payload = serde_json::to_vec(&failure).expect("invariant: a string is JSON");
    Some((topic, message(command, origin, FAILED, payload)))
}

/// The command that a message replies to.
pub(crate) fn command_of(reply: &Message) -> Option<MessageId> {
    reply.headers.get(name::CAUSATION)?.parse().ok().map(MessageId)
}

/// # Errors
/// [`Error::Codec`] where the reply does not fit its type.
pub(crate) fn read<T: DeserializeOwned, R: DeserializeOwned>(reply: &Message) -> Result<Reply<T, R>> {
    let payload = &*reply.payload;
    let codec = |e: serde_json::Error| Error::Codec(e.into());
    match reply.headers.get(name::OUTCOME).unwrap_or_default() {
        DONE => serde_json::from_slice(payload)
            .map(|reply| Reply::Answered(Answer::Done(reply)))
            .map_err(codec),
        REJECTED => serde_json::from_slice(payload)
            .map(|rejection| Reply::Answered(Answer::Rejected(rejection)))
            .map_err(codec),
        FAILED => serde_json::from_slice(payload)
            .map(|Failure { error }| Reply::Failed(error))
            .map_err(codec),
        other => Err(Error::Codec(format!("`{other}` is no outcome").into())),
    }
}

fn asker(command: &Message) -> Option<Topic> {
    command.headers.get(name::REPLY_TO).map(|topic| topic.to_owned().into())
}

/// The same command answered twice by one handler is answered by one message.
fn message(command: &Message, origin: &str, outcome: &'static str, payload: Vec<u8>) -> Message {
    let id = MessageId::derived(command.id.0, &format!("{origin}/{outcome}"), 0);
    let reply = Message::new(payload)
        .header(name::TYPE, TYPE)
        .header(name::OUTCOME, outcome)
        .header(name::CONTENT_TYPE, "application/json");
    caused_by(reply, command, id)
}

//! What the forms of Watermill for Go have in common on all brokers: an id that is any text, and metadata that are headers.

use std::borrow::Cow;

use uuid::Uuid;

#[cfg(any(feature = "amqp", feature = "nats"))]
use crate::Result;
use crate::{Error, Headers, Message, MessageId};

/// The header of the id. A message with it and without our own marks is one of Watermill's.
pub(crate) const ID: &str = "_watermill_message_uuid";

/// The id that a text stands for: of a UUID itself, of any other one that is always the same. Empty, it is none.
pub(crate) fn id_of(text: &str) -> Option<MessageId> {
    let derived = || MessageId::derived(Uuid::nil(), text, 0);
    (!text.is_empty()).then(|| Uuid::try_parse(text).map_or_else(|_| derived(), MessageId))
}

/// The text that a message's id is written as: the one that it came with, where it is one of Watermill's that goes on.
pub(crate) fn text_of(message: &Message) -> Cow<'_, str> {
    let came = message.headers.get(ID).filter(|text| id_of(text) == Some(message.id));
    came.map_or_else(|| message.id.to_string().into(), Cow::Borrowed)
}

/// All headers that are metadata.
pub(crate) fn metadata(headers: &Headers) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().filter(|(name, _)| *name != ID)
}

/// Forgets the header of the id, where the id says all of it.
pub(crate) fn tidy(message: &mut Message) {
    let id = message.id.to_string();
    if message.headers.get(ID) == Some(&id) {
        message.headers.remove(ID);
    }
}

pub(crate) fn invalid(name: &str, problem: &'static str) -> Error {
    Error::InvalidHeader {
        name: name.to_owned(),
        problem,
    }
}

/// Refuses headers of more bytes than the broker takes.
#[cfg(any(feature = "amqp", feature = "nats"))]
pub(crate) fn check_size(size: usize, max: usize) -> Result<()> {
    let part = "list of all headers in Watermill's form";
    if size > max {
        return Err(Error::TooLarge { part, size, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{ID, id_of, metadata, text_of, tidy};
    use crate::Message;

    #[test]
    fn an_id_that_is_no_uuid_goes_on_as_it_came() {
        let ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let mut message = Message::new("x").header(ID, ulid).header("tenant", "north");
        message.id = id_of(ulid).unwrap();
        tidy(&mut message);
        assert_eq!(text_of(&message), ulid);
        assert_eq!(metadata(&message.headers).collect::<Vec<_>>(), [("tenant", "north")]);
        assert_eq!(id_of(ulid), Some(message.id), "the same on each delivery");
        assert_eq!(id_of(""), None);
    }

    #[test]
    fn an_id_that_is_a_uuid_is_told_once() {
        let mut message = Message::new("x");
        let id = message.id;
        message = message.header(ID, id.to_string());
        tidy(&mut message);
        assert!(message.headers.is_empty());
        assert_eq!(text_of(&message), id.to_string());
        let message = message.header(ID, "of somebody else");
        assert_eq!(text_of(&message), id.to_string());
    }
}

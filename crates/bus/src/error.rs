//! What goes wrong, on the way to the broker and in a handler.

use std::{any::Any, error::Error as StdError, fmt};

/// Any error, boxed, as handlers and tower layers use it.
pub type BoxError = Box<dyn StdError + Send + Sync>;
/// The result of what this crate does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between this process and the broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL names a transport that this build leaves out: add the feature it names.
    #[error("`{scheme}:` needs the feature `{feature}`: cargo add sagamill --features {feature}")]
    FeatureOff {
        /// The URL's scheme.
        scheme: String,
        /// The Cargo feature that adds it.
        feature: &'static str,
    },
    /// No transport answers to this scheme.
    #[error("no transport for `{scheme}:`; known are amqp, amqps, kafka, kafkas, memory, nats, postgres, sqlite")]
    UnknownScheme {
        /// The URL's scheme.
        scheme: String,
    },
    /// More is asked for than the transport can promise: found at start-up.
    #[error("{transport} cannot promise {wanted}")]
    Unsupported {
        /// The transport's name.
        transport: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// The topic cannot be published to or subscribed to.
    #[error("`{topic}` is no topic: {problem}")]
    InvalidTopic {
        /// The topic as it was given.
        topic: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A handler waits for an event that is never published, since its type has no topic.
    #[error("`{event}` has no topic and never reaches the bus: read it from the log, or give it a topic")]
    NotPublished {
        /// The event's `NAME`.
        event: &'static str,
    },
    /// Two handlers take the same command, which is done once: take one away.
    #[error("`{command}` has two handlers, `{first}` and `{second}`: a command is done once, so take one away")]
    TwoHandlers {
        /// The command's `NAME`.
        command: &'static str,
        /// The one that was registered first.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// Two routers are in the same group: each would get a part of its messages. Make them one, or name two groups.
    #[error(
        "the group `{group}` has two routers, which would each get a part of its messages: make them one, or name two groups"
    )]
    TwoRouters {
        /// The group's name.
        group: String,
    },
    /// A message is to be delayed for longer than [`DELAY_MAX`](crate::DELAY_MAX): keep it in a database until then.
    #[error("a message cannot be delayed for {wait:?}, but for {max:?}: keep it in a database until then", max = crate::DELAY_MAX)]
    DelayTooLong {
        /// How long it was to wait.
        wait: std::time::Duration,
    },
    /// A message is larger than every transport carries. See [`limit`](crate::limit).
    #[error("the {part} takes {size}, of at most {max}: keep large content elsewhere and send its address")]
    TooLarge {
        /// Which part of the message: `payload`, `key`, `header`, `number of headers`.
        part: &'static str,
        /// Its size, in bytes or in pieces.
        size: usize,
        /// The largest that is carried.
        max: usize,
    },
    /// The form that messages are to have on the broker has no place for a header: rename it, or encode its value.
    #[error("the header `{name}` cannot be written in Watermill's form: {problem}")]
    InvalidHeader {
        /// The header's name.
        name: String,
        /// Why it cannot be written.
        problem: &'static str,
    },
    /// The broker did not confirm in time: the message may or may not be there. Publish again under the same id.
    #[error("the broker did not confirm")]
    Unconfirmed(#[source] BoxError),
    /// The delivery belongs to an earlier assignment; somebody else has it now.
    #[error("the delivery is stale: its message was given to somebody else")]
    Stale,
    /// The broker cannot be reached now.
    #[error("the broker cannot be reached")]
    Disconnected(#[source] BoxError),
    /// The broker refuses for good: its URL, the permission, what lies there. The cause says what to mend.
    #[error("the broker cannot be used")]
    Unusable(#[source] BoxError),
    /// This connection was closed: nothing was published, nothing more is delivered.
    #[error("the connection to the bus is closed")]
    Closed,
    /// A mandatory message was published where no group is subscribed: publish it again when one is.
    #[error("nobody is subscribed to `{topic}`")]
    NoSubscriber {
        /// Where it was published.
        topic: String,
    },
    /// The dead letters of this topic and group are at their bound; the message stays with its group, to be tried again.
    #[error("the dead letters of `{topic}` for `{group}` are full: requeue or discard some")]
    DeadLettersFull {
        /// The message's topic.
        topic: String,
        /// The group that gave it up.
        group: String,
    },
    /// There is no such dead letter; somebody may have requeued or discarded it.
    #[error("`{topic}` has no dead letter {id} for `{group}`")]
    NoDeadLetter {
        /// The message's topic.
        topic: String,
        /// The group that gave it up.
        group: String,
        /// The message's id.
        id: crate::MessageId,
    },
    /// The content does not fit its type.
    #[error("the payload does not fit its type")]
    Codec(#[source] BoxError),
}

impl Error {
    /// For authors of transports: there is no such dead letter.
    #[must_use]
    pub fn no_dead_letter(topic: &crate::Topic, group: &str, id: crate::MessageId) -> Self {
        Self::NoDeadLetter {
            topic: topic.to_string(),
            group: group.to_owned(),
            id,
        }
    }
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unconfirmed(_) | Self::Disconnected(_) | Self::NoSubscriber { .. } | Self::DeadLettersFull { .. }
        )
    }
}

/// Why a handler gave up this time. `?` makes one of any error, to be tried again; [`permanent`](Self::permanent) ones are not.
#[derive(Debug)]
pub struct HandlerError {
    source: BoxError,
    permanent: bool,
}

impl HandlerError {
    /// Trying again would not help: a dead letter at once.
    pub fn permanent(source: impl Into<BoxError>) -> Self {
        Self {
            source: source.into(),
            permanent: true,
        }
    }
    /// Whether trying again is pointless.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }
    /// What happened.
    #[must_use]
    pub fn into_source(self) -> BoxError {
        self.source
    }
}
impl<E: StdError + Send + Sync + 'static> From<E> for HandlerError {
    fn from(source: E) -> Self {
        let permanent = ErrorClass::of(&source) != ErrorClass::Transient;
        Self {
            source: source.into(),
            permanent,
        }
    }
}
impl From<HandlerError> for BoxError {
    fn from(error: HandlerError) -> Self {
        if error.permanent {
            Box::new(Permanent(error.source))
        } else {
            error.source
        }
    }
}

/// How the retry policy judges an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorClass {
    /// May pass: tried again. What nothing else is known of.
    Transient,
    /// Will not pass: a dead letter at once.
    Permanent,
    /// The message itself cannot be read: a dead letter at once.
    Undecodable,
}

impl ErrorClass {
    /// The class of an error or of what caused it; layers may have wrapped it.
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<Permanent>() {
                return Self::Permanent;
            }
            if error.is::<crate::ExtractError>() {
                return Self::Undecodable;
            }
            match error.downcast_ref() {
                Some(Error::Codec(_)) => return Self::Undecodable,
                Some(
                    Error::TooLarge { .. }
                    | Error::InvalidTopic { .. }
                    | Error::InvalidHeader { .. }
                    | Error::NotPublished { .. }
                    | Error::DelayTooLong { .. },
                ) => {
                    return Self::Permanent;
                }
                _ => {}
            }
            cause = error.source();
        }
        Self::Transient
    }
}

/// Carries [`HandlerError::permanent`] through layers, which know boxed errors only.
#[derive(Debug)]
struct Permanent(BoxError);

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl StdError for Permanent {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// An error and its causes on one line, for dead letters and logs.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // Many libraries repeat the cause in their own message.
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

/// What a panic says.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::{BoxError, ErrorClass, HandlerError, chain};

    #[derive(Debug, thiserror::Error)]
    #[error("a layer failed")]
    struct Layer(#[source] BoxError);

    #[test]
    fn a_permanent_error_stays_so_inside_a_layers_error() {
        let error: BoxError = HandlerError::permanent("no such sku").into();
        assert_eq!(ErrorClass::of(error.as_ref()), ErrorClass::Permanent);
        let wrapped = Layer(error);
        assert_eq!(ErrorClass::of(&wrapped), ErrorClass::Permanent);
        assert_eq!(chain(&wrapped), "a layer failed: no such sku");
        let again: BoxError = HandlerError::from(wrapped).into();
        assert_eq!(ErrorClass::of(again.as_ref()), ErrorClass::Permanent);
    }

    #[test]
    fn what_cannot_be_read_is_undecodable_and_anything_else_transient() {
        let codec = crate::Error::Codec("no JSON".into());
        assert_eq!(ErrorClass::of(&codec), ErrorClass::Undecodable);
        assert_eq!(
            ErrorClass::of(&crate::ExtractError("no key".into())),
            ErrorClass::Undecodable
        );
        assert_eq!(ErrorClass::of(&std::io::Error::other("refused")), ErrorClass::Transient);
    }
}

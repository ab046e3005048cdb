//! What a handler returns, and how it ends the delivery.

use crate::{
    BoxError, Event, HandlerError, Message, MessageId, Result, Settlement, Topic, codec, headers::name, trace_context,
};

/// Publishes an event, then acknowledges what caused it.
///
/// The event's message id is derived from the cause's, the group and the handler, so that a cause that is handled twice
/// publishes the same message twice, and not two messages. Correlation and trace are carried on.
#[derive(Debug)]
pub struct Emit<E>(pub E);

/// Takes what a handler wants published before its message is acknowledged.
#[derive(Debug)]
pub struct Emitter<'a> {
    cause: &'a Message,
    origin: &'a str,
    messages: Vec<(Topic, Message)>,
}

impl<'a> Emitter<'a> {
    /// `origin` names the handler within all that may handle the cause: two of them decide two things.
    pub(crate) fn new(cause: &'a Message, origin: &'a str) -> Self {
        Self {
            cause,
            origin,
            messages: Vec::new(),
        }
    }
    pub(crate) fn into_messages(self) -> Vec<(Topic, Message)> {
        self.messages
    }
    /// Publishes an event once the handler is done; its delivery is acknowledged after the broker has confirmed.
    ///
    /// # Errors
    /// [`Error::Codec`](crate::Error::Codec) where it cannot be written, [`Error::NotPublished`](crate::Error::NotPublished)
    /// where its type has no topic.
    pub fn emit<E: Event>(&mut self, event: &E) -> Result<()> {
        let topic = E::topic().ok_or(crate::Error::NotPublished { event: E::NAME })?;
        let ordinal = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        let id = MessageId::derived(self.cause.id.0, self.origin, ordinal);
        let message = caused_by(codec::message(event)?, self.cause, id);
        self.messages.push((topic, message));
        Ok(())
    }
}

/// Names a message, and says what caused it: correlation and trace are carried on.
pub(crate) fn caused_by(message: Message, cause: &Message, id: MessageId) -> Message {
    let mut message = message.id(id);
    message.headers.set(name::ID, id.to_string());
    let cause_id = cause.id.to_string();
    let correlation = cause.headers.get(name::CORRELATION).unwrap_or(&cause_id).to_owned();
    message.headers.set(name::CORRELATION, correlation);
    message.headers.set(name::CAUSATION, cause_id);
    if let Some(parent) = cause.headers.get(name::TRACEPARENT) {
        message.headers.set(name::TRACEPARENT, trace_context::child(parent, id));
    }
    message
}

/// What a handler may return.
#[diagnostic::on_unimplemented(
    message = "a handler on the bus cannot return `{Self}`",
    label = "returns `{Self}`",
    note = "it may return `()`, `Settlement`, `Emit<Event>`, or a `Result` of one of these with any error"
)]
pub trait IntoSettlement {
    /// Turns it into how the delivery ends, or the error that the retry policy judges. What is given to the emitter is
    /// published before that, and only where this is `Ok`.
    ///
    /// # Errors
    /// The handler's own.
    fn into_settlement(self, emitter: &mut Emitter<'_>) -> Result<Settlement, BoxError>;
}
impl IntoSettlement for () {
    fn into_settlement(self, _: &mut Emitter<'_>) -> Result<Settlement, BoxError> {
        Ok(Settlement::Ack)
    }
}
impl IntoSettlement for Settlement {
    fn into_settlement(self, _: &mut Emitter<'_>) -> Result<Settlement, BoxError> {
        Ok(self)
    }
}
impl<E: Event> IntoSettlement for Emit<E> {
    fn into_settlement(self, emitter: &mut Emitter<'_>) -> Result<Settlement, BoxError> {
        // An event that cannot be written now cannot be written later.
        emitter.emit(&self.0).map_err(HandlerError::permanent)?;
        Ok(Settlement::Ack)
    }
}
impl<T: IntoSettlement, E: Into<BoxError>> IntoSettlement for Result<T, E> {
    fn into_settlement(self, emitter: &mut Emitter<'_>) -> Result<Settlement, BoxError> {
        self.map_err(Into::into)?.into_settlement(emitter)
    }
}

//! What a handler returns, and how it ends the delivery.

use crate::{BoxError, Event, Settlement};

/// Publishes an event, then acknowledges what caused it.
#[derive(Debug)]
pub struct Emit<E>(pub E);

/// What a handler may return.
#[diagnostic::on_unimplemented(
    message = "a handler on the bus cannot return `{Self}`",
    label = "returns `{Self}`",
    note = "it may return `()`, `Settlement`, `Emit<Event>`, or a `Result` of one of these with any error"
)]
pub trait IntoSettlement {
    /// Turns it into how the delivery ends, or the error that the retry policy judges.
    fn into_settlement(self) -> Result<Settlement, BoxError>;
}
impl IntoSettlement for () {
    fn into_settlement(self) -> Result<Settlement, BoxError> {
        Ok(Settlement::Ack)
    }
}
impl IntoSettlement for Settlement {
    fn into_settlement(self) -> Result<Settlement, BoxError> {
        Ok(self)
    }
}
impl<E: Event> IntoSettlement for Emit<E> {
    fn into_settlement(self) -> Result<Settlement, BoxError> {
        todo!()
    }
}
impl<T: IntoSettlement, E: Into<BoxError>> IntoSettlement for Result<T, E> {
    fn into_settlement(self) -> Result<Settlement, BoxError> {
        self.map_err(Into::into)?.into_settlement()
    }
}

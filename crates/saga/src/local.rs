//! What local steps run in.

use sagamill_bus::{Context, ExtractError, FromContext, Message, Provides};

use crate::{SagaContext, Transacts};

/// What a local step runs in. State given to `Coordinator::with_state` is found by its type, which is checked when the
/// saga is registered.
pub struct LocalContext {
    message: Message,
}
impl Context for LocalContext {
    fn message(&self) -> &Message {
        &self.message
    }
}
impl<T: Clone + Send + Sync + 'static> Provides<T> for LocalContext {
    fn provide(&self) -> T {
        todo!()
    }
}
impl FromContext<LocalContext> for SagaContext {
    async fn from_context(_: &LocalContext) -> Result<Self, ExtractError> {
        todo!()
    }
}
impl<D: sqlx::Database> Transacts<D> for LocalContext {}

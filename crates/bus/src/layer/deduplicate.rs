//! A message that was handled is not handled again.

mod memory;
mod store;

use std::{borrow::Cow, fmt, sync::Arc};

use tower::{ServiceExt, service_fn};

pub use self::{
    memory::DedupeMemory,
    store::{Claim, DedupeKey, DedupeStore},
};
use crate::{
    BoxError, ExtractError, Incoming, Route, RouteLayer, Settlement, error::chain, metric_definitions as metric,
};

tokio::task_local! {
    /// What the layers further out hold: asked for once more, it would wait for itself.
    static HELD: Vec<DedupeKey>;
}

/// Passes over what its handler has handled already: acknowledges it, without calling the handler.
///
/// A message is known by its id, or by a [header](Self::by_header), to each handler of a group by itself. It is marked
/// *after* the handler has succeeded and what it emits is published; one that failed, was dropped or is a dead letter is not
/// marked, and is handled when it comes again. Of two at once the second waits for the first: where that succeeds it is
/// passed over, else it is handled.
///
/// ```
/// use sagamill_bus::{layer::Deduplicate, prelude::*};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Paid { order: u64 }
/// # impl Event for Paid { const NAME: &'static str = "order.paid"; }
///
/// async fn thank(paid: Paid) { /* sends a mail */ }
///
/// let router: Router = Router::new().on(thank).layer(Deduplicate::new());
/// ```
///
/// What is guaranteed, as long as the store remembers the key:
/// * A success is not repeated, also where its settlement failed or was lost: the message comes again and is passed over.
/// * Nothing is passed over that no handler call has succeeded with.
/// * A process that dies between the success and the mark handles the message again. Where not even that may be, the
///   handler writes the key in its own transaction, as a saga's participants do.
#[derive(Clone)]
pub struct Deduplicate {
    store: Arc<dyn DedupeStore>,
    header: Option<Cow<'static, str>>,
}

/// Why a message was not handled now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DedupeError {
    /// Another process is at the same message. It is tried again by the retry policy; by then the other may be done.
    #[error("another process is handling the same message")]
    Busy,
    /// The store did not answer, so that nobody knows whether the message was handled. It is tried again.
    #[error("the store of handled messages did not answer")]
    Store(#[source] BoxError),
}

impl Default for Deduplicate {
    fn default() -> Self {
        Self::new()
    }
}

impl Deduplicate {
    /// By message id, in the memory of this process: see [`DedupeMemory`] for how much and for how long.
    #[must_use]
    pub fn new() -> Self {
        Self::in_store(DedupeMemory::new())
    }
    /// By message id, in a store of one's own.
    #[must_use]
    pub fn in_store(store: impl DedupeStore) -> Self {
        Self {
            store: Arc::new(store),
            header: None,
        }
    }
    /// By a header in place of the message id; a message without it is known by its id all the same. One whose header has
    /// more than [`DedupeKey::MAX`] bytes is a dead letter.
    #[must_use]
    pub fn by_header(self, name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            header: Some(name.into()),
            ..self
        }
    }

    fn key<S>(&self, incoming: &Incoming<S>) -> Result<DedupeKey, ExtractError> {
        let message = &incoming.message;
        let header = self.header.as_deref().and_then(|name| message.headers.get(name));
        let key = header.map_or_else(|| message.id.to_string(), str::to_owned);
        if key.len() > DedupeKey::MAX {
            return Err(ExtractError("the header that it is known by is too long".into()));
        }
        Ok(DedupeKey::new(incoming.origin(), key))
    }
    async fn handle<S>(self, incoming: Incoming<S>, route: Route<S>) -> Result<Settlement, BoxError>
    where
        S: Send + 'static,
    {
        let key = self.key(&incoming)?;
        let mut held = HELD.try_with(Clone::clone).unwrap_or_default();
        if held.contains(&key) {
            return route.oneshot(incoming).await;
        }
        match self.store.claim(&key).await.map_err(DedupeError::Store)? {
            Claim::Taken => {}
            Claim::Busy => return Err(DedupeError::Busy.into()),
            Claim::Done => {
                metrics::counter!(metric::DEDUPLICATED, "destination" => incoming.topic.label()).increment(1);
                return Ok(Settlement::Ack);
            }
        }
        held.push(key.clone());
        let claimed = Claimed {
            store: self.store,
            key: Some(key),
        };
        let settlement = HELD.scope(held, route.oneshot(incoming)).await?;
        if settlement == Settlement::Ack {
            claimed.done().await;
        }
        Ok(settlement)
    }
}

impl<S: Send + 'static> RouteLayer<S> for Deduplicate {
    fn wrap(&self, route: Route<S>) -> Route<S> {
        let layer = self.clone();
        Route::new(service_fn(move |incoming| {
            layer.clone().handle(incoming, route.clone())
        }))
    }
}

impl fmt::Debug for Deduplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deduplicate")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

/// A key that this attempt holds; let go of where the attempt does not succeed, also by a panic or a drop.
struct Claimed {
    store: Arc<dyn DedupeStore>,
    key: Option<DedupeKey>,
}

impl Claimed {
    /// The handler is done with the message, whatever the store says: a failure here must not make it run again.
    async fn done(mut self) {
        let Some(key) = &self.key else { return };
        match self.store.done(key).await {
            Ok(()) => self.key = None,
            Err(error) => tracing::warn!(
                error = chain(error.as_ref()),
                "handled, but not marked: a repeat of the message is handled again"
            ),
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.store.release(&key);
        }
    }
}

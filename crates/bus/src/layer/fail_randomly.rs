//! For tests: failures before a handler has begun, and after it has succeeded.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tower::{ServiceExt, service_fn};

use crate::{BoxError, Incoming, Route, RouteLayer, Settlement, random::Random};

/// For tests: lets a share of calls fail, each time in the same way for the same seed and the same order of calls.
///
/// A failure is tried again by the [`Retry`](crate::Retry) policy; give it attempts enough, or bad luck makes dead letters.
///
/// ```
/// use sagamill_bus::{layer::FailRandomly, prelude::*};
///
/// fn handlers() -> Router {
///     Router::new().route("order", async |_: Message| { /* under test */ })
/// }
/// let under_test = handlers().layer(FailRandomly::seeded(7).before(0.2).after(0.2));
/// ```
#[derive(Clone)]
pub struct FailRandomly {
    random: Arc<Mutex<Random>>,
    before: f64,
    after: f64,
}

/// A failure on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FailedRandomly {
    /// The handler was not called.
    #[error("failed on purpose before the handler")]
    Before,
    /// The handler has succeeded, what it emits is published, and the message comes again all the same.
    #[error("failed on purpose after the handler")]
    After,
}

impl FailRandomly {
    /// Nothing fails until a probability is given. Clones draw from the same luck.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            random: Arc::new(Mutex::new(Random::seeded(seed))),
            before: 0.0,
            after: 0.0,
        }
    }
    /// Fails with this probability in place of calling the handler.
    #[must_use]
    pub fn before(self, probability: f64) -> Self {
        Self {
            before: probability,
            ..self
        }
    }
    /// Fails with this probability after the handler has succeeded. What the handler itself makes fail stays as it is.
    #[must_use]
    pub fn after(self, probability: f64) -> Self {
        Self {
            after: probability,
            ..self
        }
    }

    fn strikes(&self, probability: f64) -> bool {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        random.fraction() < probability
    }
    async fn handle<S>(self, incoming: Incoming<S>, route: Route<S>) -> Result<Settlement, BoxError>
    where
        S: Send + 'static,
    {
        // Both are drawn at first, so that what the handler does moves nobody's luck.
        let (before, after) = (self.strikes(self.before), self.strikes(self.after));
        if before {
            return Err(FailedRandomly::Before.into());
        }
        let settlement = route.oneshot(incoming).await?;
        if after && settlement == Settlement::Ack {
            return Err(FailedRandomly::After.into());
        }
        Ok(settlement)
    }
}

impl<S: Send + 'static> RouteLayer<S> for FailRandomly {
    fn wrap(&self, route: Route<S>) -> Route<S> {
        let layer = self.clone();
        Route::new(service_fn(move |incoming| {
            layer.clone().handle(incoming, route.clone())
        }))
    }
}

impl fmt::Debug for FailRandomly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailRandomly")
            .field("before", &self.before)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

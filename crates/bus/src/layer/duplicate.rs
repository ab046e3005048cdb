//! For tests: what a broker that delivers twice does to a handler.

use tower::{ServiceExt, service_fn};

use crate::{BoxError, Incoming, Route, RouteLayer, Settlement};

/// For tests: hands each message to its handler twice, one time after the other, and settles it as the second time says.
///
/// A handler that can be repeated leaves the same behind as without this layer. Where the first time does not succeed, there
/// is no second: the message comes again in any case. What is emitted goes out both times, under the same ids.
///
/// ```
/// use sagamill_bus::{layer::Duplicate, prelude::*};
///
/// fn handlers() -> Router {
///     Router::new().route("order", async |_: Message| { /* under test */ })
/// }
/// let under_test = handlers().layer(Duplicate);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Duplicate;

impl<S: Clone + Send + Sync + 'static> RouteLayer<S> for Duplicate {
    fn wrap(&self, route: Route<S>) -> Route<S> {
        Route::new(service_fn(move |incoming| twice(incoming, route.clone())))
    }
}

async fn twice<S>(incoming: Incoming<S>, route: Route<S>) -> Result<Settlement, BoxError>
where
    S: Clone + Send + Sync + 'static,
{
    let first = route.clone().oneshot(incoming.clone()).await?;
    if first == Settlement::Ack {
        route.oneshot(incoming).await
    } else {
        Ok(first)
    }
}

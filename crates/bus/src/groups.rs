//! Routers side by side, each in a group of its own.

use std::fmt;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{Bus, Error, Result, Router, Subscribed, router};

/// Routers that run together, each in a group of its own: every group gets every message, so that one handler that is slow,
/// fails, or has stopped does not hold up another.
///
/// ```
/// use sagamill_bus::{Groups, prelude::*};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Placed { order: u64 }
/// # impl Event for Placed {
/// #     const NAME: &'static str = "order.placed";
/// #     fn key(&self) -> Option<Key> { Some(self.order.into()) }
/// # }
/// # #[derive(Serialize, Deserialize)]
/// # struct Cancelled { order: u64 }
/// # impl Event for Cancelled {
/// #     const NAME: &'static str = "order.cancelled";
/// #     fn key(&self) -> Option<Key> { Some(self.order.into()) }
/// # }
/// # async fn thank(placed: Placed) {}
/// # async fn add(placed: Placed) {}
/// # async fn remove(cancelled: Cancelled) {}
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sagamill_bus::Result<()> {
/// # let (bus, shutdown) = (Bus::memory(), std::future::ready(()));
/// Groups::new()
///     .with("mailer", Router::new().on(thank))
///     .with("index", Router::new().on(add).on(remove)) // one order over both
///     .run(&bus, shutdown)
///     .await
/// # }
/// ```
///
/// Handlers of one router share a group, and what that has: events of one key that share a topic (`order.placed`,
/// `order.cancelled`) come to them in the order in which they were published, one at a time. Across topics there is no order.
///
/// A group's name is its place on the broker: under another name it begins anew.
#[derive(Default)]
pub struct Groups(Vec<(String, Router)>);

/// [`Groups`] whose subscriptions are made. Dropping it gives back what they hold, uncounted.
#[derive(Debug)]
pub struct SubscribedGroups(Vec<Subscribed>);

impl Groups {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds a router in a group of its own.
    #[must_use]
    pub fn with(mut self, group: impl Into<String>, router: Router) -> Self {
        self.0.push((group.into(), router));
        self
    }
    /// Subscribes all. What is published from now on reaches them, as soon as they [run](SubscribedGroups::run).
    ///
    /// # Errors
    /// [`Error::TwoRouters`] for a group that is named twice, [`Error::TwoHandlers`] for a command that two handle, else as
    /// [`Router::subscribe`].
    pub async fn subscribe(self, bus: &Bus) -> Result<SubscribedGroups> {
        for (index, (group, _)) in self.0.iter().enumerate() {
            if self.0[..index].iter().any(|(other, _)| other == group) {
                return Err(Error::TwoRouters { group: group.clone() });
            }
        }
        router::check_commands(self.0.iter().flat_map(|(_, router)| router.commands()))?;
        let mut subscribed = Vec::with_capacity(self.0.len());
        for (group, router) in self.0 {
            subscribed.push(router.subscribe(bus.group(group)).await?);
        }
        Ok(SubscribedGroups(subscribed))
    }
    /// Subscribes all and handles what comes until `shutdown` is ready, each as [`Router::run`] does.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe) and [`SubscribedGroups::run`].
    pub async fn run(self, bus: &Bus, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        self.subscribe(bus).await?.run(shutdown).await
    }
}

impl SubscribedGroups {
    /// Handles what comes until `shutdown` is ready. Where one router cannot go on, the others are stopped as by a shutdown,
    /// so that the process can be started anew.
    ///
    /// # Errors
    /// The first one's of those that could not go on: see [`Subscribed::run`].
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        for router in self.0 {
            running.spawn(router.run(stop.clone().cancelled_owned()));
        }
        let first = async {
            match running.join_next().await {
                Some(ended) => end(ended),
                // None at all: there is nothing to do until the shutdown.
                None => std::future::pending().await,
            }
        };
        let mut all = tokio::select! {
            biased;
            () = shutdown => Ok(()),
            ended = first => ended,
        };
        stop.cancel();
        while let Some(ended) = running.join_next().await {
            all = all.and(end(ended));
        }
        all
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(group, router)| (group, router)))
            .finish()
    }
}

fn end(ended: Result<Result<()>, JoinError>) -> Result<()> {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(result) => result,
        // A panic in the router itself is a bug: it goes on where it is seen.
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => Ok(()),
    }
}

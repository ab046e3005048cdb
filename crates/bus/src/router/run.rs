//! A router's life: check, subscribe, handle, drain.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream::SelectAll};
use tokio::{task::JoinSet, time::timeout};

use super::{
    Entry, Router,
    dispatch::{Dispatch, Target},
    progress::Memory,
};
use crate::{Deliveries, Error, Group, Order, Result, Retry, Subscribe, Topic, error::chain};

/// A router whose subscriptions are made. Dropping it gives back what they hold, uncounted.
pub struct Subscribed {
    // Dropped first to last: without its stream a delivery is given back uncounted, so the streams go before the tasks.
    deliveries: SelectAll<Deliveries>,
    tasks: JoinSet<()>,
    dispatch: Arc<Dispatch>,
    drain: Duration,
}

pub(super) async fn subscribe(router: Router, group: &Group) -> Result<Subscribed> {
    let drain = router.drain;
    let subscriptions = plan(&router, group)?;
    let dispatch = Arc::new(dispatch(router, group)?);
    let mut deliveries = SelectAll::new();
    for request in subscriptions {
        deliveries.push(group.bus.subscribe(request).await?);
    }
    Ok(Subscribed {
        deliveries,
        tasks: JoinSet::new(),
        dispatch,
        drain,
    })
}

impl Subscribed {
    /// Handles what comes until `shutdown` is ready, as [`Router::run`] does.
    ///
    /// # Errors
    /// [`Error::Closed`] where the connection was closed before the shutdown; [`Error::Unusable`] where a subscription can
    /// never go on, with the reason.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let end = fetch(&self.dispatch, &mut self.tasks, &mut self.deliveries, shutdown).await;
        let tasks = &mut self.tasks;
        if timeout(self.drain, async { while tasks.join_next().await.is_some() {} })
            .await
            .is_err()
        {
            let group = &*self.dispatch.group;
            tracing::warn!(
                unfinished = self.tasks.len(),
                group,
                "the drain deadline passed: the rest is given back"
            );
        }
        drop(self.deliveries);
        self.tasks.shutdown().await;
        end
    }
}

impl fmt::Debug for Subscribed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribed")
            .field("group", &self.dispatch.group)
            .finish_non_exhaustive()
    }
}

/// Spawns a task for each delivery until the shutdown.
async fn fetch(
    dispatch: &Arc<Dispatch>,
    tasks: &mut JoinSet<()>,
    deliveries: &mut SelectAll<Deliveries>,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let mut shutdown = std::pin::pin!(shutdown);
    if deliveries.is_empty() {
        shutdown.await;
        return Ok(());
    }
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Err(error) = ended {
                    // Its delivery was dropped with it and comes again.
                    tracing::error!(error = chain(&error), "a delivery's task ended early");
                }
            }
            next = deliveries.next() => match next {
                Some(Ok(delivery)) => {
                    tasks.spawn(Arc::clone(dispatch).handle(delivery));
                }
                // One of several that can never go on: the others must not hide it.
                Some(Err(error)) if !error.is_retryable() => return Err(error),
                Some(Err(error)) => tracing::warn!(error = chain(&error), "the subscription was disturbed"),
                None => return Err(Error::Closed),
            },
        }
    }
}

/// What to subscribe to, after checking that the transport can promise it: of topics that cover each other the widest, so
/// that each message comes once.
fn plan(router: &Router, group: &Group) -> Result<Vec<Subscribe>> {
    let (transport, promised) = (group.bus.transport(), group.bus.capabilities());
    super::check_commands(router.commands())?;
    let mut topics: Vec<Topic> = Vec::new();
    for entry in &router.routes {
        let topic = entry.topic()?;
        if !topics.iter().any(|known| known.covers(&topic)) {
            topics.retain(|known| !topic.covers(known));
            topics.push(topic);
        }
    }
    if router.routes.iter().any(|entry| entry.together > router.max_in_flight) {
        return Err(Error::Unsupported {
            transport,
            wanted: "batches of more messages than may be in flight",
        });
    }
    let retries = router
        .routes
        .iter()
        .map(|entry| entry.retry.clone().unwrap_or_default());
    let retries: Vec<Retry> = retries.collect();
    let waits = |retry: &Retry| !retry.backoff_min.is_zero();
    if router.order == Order::None && !promised.delay && retries.iter().any(waits) {
        return Err(Error::Unsupported {
            transport,
            wanted: "retries after a time without order of keys",
        });
    }
    let attempts_max = retries.iter().filter_map(|retry| retry.attempts_max).min();
    let subscribe = |topic| {
        let request = Subscribe::new(topic, group.name.as_str());
        let request = request
            .start(router.start)
            .order(router.order)
            .order_scope(router.order_scope);
        let request = request.max_in_flight(router.max_in_flight).attempts_max(attempts_max);
        promised.check(transport, &request).map(|()| request)
    };
    topics.into_iter().map(subscribe).collect()
}

fn dispatch(router: Router, group: &Group) -> Result<Dispatch> {
    let mut routes: Vec<Target> = Vec::with_capacity(router.routes.len());
    for entry in router.routes {
        let topic = entry.topic()?;
        if let Some(dead_letters) = &entry.dead_letters {
            dead_letters.check_name()?;
        }
        // Closures of one function share a name.
        let same = routes.iter().filter(|earlier| earlier.handler == entry.handler).count();
        routes.push(Target {
            topic,
            accepts: entry.event.map(|event| event.accepts),
            is_command: entry.event.is_some_and(|event| event.is_command),
            handler: entry.handler,
            origin: format!("{}/{}#{same}", group.name, entry.handler).into(),
            route: entry.route,
            retry: entry.retry.unwrap_or_default(),
            dead_letters: entry.dead_letters,
        });
    }
    let (bus, group) = (group.bus.clone(), group.name.as_str().into());
    Ok(Dispatch {
        bus,
        group,
        order: router.order,
        routes,
        memory: Mutex::new(Memory::default()),
    })
}

impl<S> Entry<S> {
    fn topic(&self) -> Result<Topic> {
        let unpublished = || Error::NotPublished {
            event: self.event.map_or("", |event| event.name),
        };
        self.topic.clone().ok_or_else(unpublished)
    }
}

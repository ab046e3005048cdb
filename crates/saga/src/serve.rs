//! Tasks with an owner: a subscription served until it is told to stop.

use std::time::Duration;

use futures_util::StreamExt as _;
use sagamill_bus::{Deliveries, Delivery};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Error, Result};

/// How long handlers may go on after a stop; what is not settled by then is delivered again.
const DRAIN: Duration = Duration::from_secs(30);
/// How long to leave a broken connection alone.
const RECONNECT: Duration = Duration::from_millis(100);

/// Handles deliveries at the same time, as many as the subscription hands out, until `stop`; then lets those in hand end.
///
/// # Errors
/// The bus has been closed, or can never deliver again.
pub(crate) async fn serve<F, Fut>(mut deliveries: Deliveries, stop: CancellationToken, handle: F) -> Result<()>
where
    F: Fn(Delivery) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let ended = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break Ok(()),
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            delivery = deliveries.next() => match delivery {
                Some(Ok(delivery)) => drop(tasks.spawn(handle(delivery))),
                Some(Err(error)) if !error.is_retryable() => break Err(Error::Bus(error)),
                Some(Err(error)) => {
                    tracing::warn!(%error, "a subscription is interrupted");
                    tokio::time::sleep(RECONNECT).await;
                }
                None => break Err(Error::Bus(sagamill_bus::Error::Closed)),
            },
        }
    };
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("handlers did not end in time; what they were at is delivered again");
    }
    drop(deliveries);
    ended
}

/// Waits for the shutdown, or for the first task that fails.
pub(crate) async fn until(
    shutdown: impl Future<Output = ()>,
    first: &mut JoinSet<Result<()>>,
    second: &mut JoinSet<Result<()>>,
) -> Result<()> {
    tokio::pin!(shutdown);
    loop {
        let ended = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            Some(ended) = first.join_next(), if !first.is_empty() => ended,
            Some(ended) = second.join_next(), if !second.is_empty() => ended,
        };
        ended.unwrap_or_else(panicked)?;
    }
}

/// Waits for all tasks, and answers with the first failure.
pub(crate) async fn join(tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    let mut all = Ok(());
    while let Some(ended) = tasks.join_next().await {
        all = all.and(ended.unwrap_or_else(panicked));
    }
    all
}

fn panicked(error: tokio::task::JoinError) -> Result<()> {
    match error.try_into_panic() {
        // A panic in the library's own tasks is a bug: it goes on where it is seen.
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Ok(()),
    }
}

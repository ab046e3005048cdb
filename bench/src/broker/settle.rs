//! Takes what comes and settles it, many at a time.

use std::{ops::ControlFlow, pin::pin};

use anyhow::Context as _;
use futures_util::{Stream, StreamExt as _, stream::FuturesUnordered};

use super::way::IN_FLIGHT;

/// Until no more are wanted; returns when all that was taken is settled.
pub(crate) async fn settled<D, F>(
    deliveries: impl Stream<Item = anyhow::Result<D>>,
    mut receive: impl FnMut(&D) -> anyhow::Result<ControlFlow<()>>,
    settle: impl Fn(D) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut deliveries = pin!(deliveries);
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(settled) = open.next(), if !open.is_empty() => settled?,
            next = deliveries.next(), if open.len() < IN_FLIGHT => {
                let delivery = next.context("the messages have ended")??;
                let wanted = receive(&delivery)?;
                open.push(settle(delivery));
                if wanted.is_break() {
                    break;
                }
            }
        }
    }
    while let Some(settled) = open.next().await {
        settled?;
    }
    Ok(())
}

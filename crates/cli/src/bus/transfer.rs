//! `bus move`: messages of a topic to another topic, on the same bus or on another one.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use sagamill::bus::{Bus, Deliveries, Delivery, Start, Topic};
use sagamill_service_kit::Shutdown;

use super::{Connection, extent::Extent, failure, in_order, on, open, pattern, topic};
use crate::failure::{Code, Failure};

/// Most messages that are published together.
const BATCH: usize = 256;
/// So long a batch waits for more.
const LINGER: Duration = Duration::from_millis(5);

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// The topic, or pattern, whose messages are moved.
    #[arg(value_parser = pattern)]
    from: Topic,
    /// Where they go.
    #[arg(value_parser = topic)]
    to: Topic,
    /// The bus that they go to; the same one where it is left out.
    #[arg(long, value_name = "URL")]
    to_bus: Option<String>,
    /// The group that takes the messages. It stays when this command has ended: a second run goes on where the first ended.
    #[arg(long, default_value = "sagamill-move")]
    group: String,
    #[command(flatten)]
    extent: Extent,
}

pub(super) async fn run(options: Options) -> Result<Code, Failure> {
    let same_bus = options.to_bus.as_ref().is_none_or(|url| *url == options.connection.url);
    if same_bus && options.from.covers(&options.to) {
        return Err(Failure::usage(
            "the messages would come back to where they are taken from, and be moved for ever: name another topic",
        ));
    }
    let source = options.connection.open().await?;
    on(source, async |source| match &options.to_bus {
        Some(url) => on(open(url).await?, async |target| options.transfer(source, target).await).await,
        None => options.transfer(source, source).await,
    })
    .await
}

impl Options {
    async fn transfer(&self, source: &Bus, target: &Bus) -> Result<Code, Failure> {
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        let mut deliveries = self.subscribe(source).await?;
        let mut moved = 0;
        while self.extent.left(moved) > 0 {
            let first = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                first = deliveries.next() => first,
                () = self.extent.grow_tired() => break,
            };
            let Some(first) = first else { break };
            let most = usize::try_from(self.extent.left(moved)).unwrap_or(BATCH).min(BATCH);
            let batch = batch(first.map_err(failure)?, &mut deliveries, most).await?;
            moved += self.forward(target, batch).await?;
        }
        eprintln!("moved {moved} messages from `{}` to `{}`", self.from, self.to);
        Ok(Code::Success)
    }
    /// Of each key there is one message in a batch.
    async fn subscribe(&self, source: &Bus) -> Result<Deliveries, Failure> {
        let request = in_order(source, &self.from, &self.group, Start::Earliest);
        source.subscribe(request.max_in_flight(BATCH)).await.map_err(failure)
    }
    /// Published first, acknowledged then: what is stopped in between is there twice under one id, and is never lost.
    async fn forward(&self, target: &Bus, batch: Vec<Delivery>) -> Result<u64, Failure> {
        let messages = batch.iter().map(|delivery| delivery.message.clone()).collect();
        let published = target.publish_each(&self.to, messages).await;
        let (mut moved, mut failed) = (0, None);
        for (delivery, published) in batch.into_iter().zip(published) {
            match published {
                Ok(_) => {
                    delivery.ack().await.map_err(failure)?;
                    moved += 1;
                }
                Err(error) => failed = failed.or(Some((delivery.message.id, error))),
            }
        }
        match failed {
            None => Ok(moved),
            Some((id, error)) => {
                eprintln!(
                    "message {id} could not be published to `{}`: it stays where it is",
                    self.to
                );
                Err(failure(error))
            }
        }
    }
}

/// The first message, and as many more as come with it.
async fn batch(first: Delivery, deliveries: &mut Deliveries, most: usize) -> Result<Vec<Delivery>, Failure> {
    let mut batch = vec![first];
    let linger = tokio::time::sleep(LINGER);
    tokio::pin!(linger);
    while batch.len() < most {
        let next = tokio::select! {
            next = deliveries.next() => next,
            () = &mut linger => None,
        };
        let Some(next) = next else { break };
        batch.push(next.map_err(failure)?);
    }
    Ok(batch)
}

//! `bus sub`: messages as they come, one line each.

use std::io::Write;

use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use sagamill::bus::{Bus, Start, Topic};
use sagamill_service_kit::Shutdown;

use super::{Connection, extent::Extent, failure, in_order, line::MessageLine, on, pattern};
use crate::{
    failure::{Code, Failure},
    output::{json_line, stdout},
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// A topic, or a pattern (`payment.*`) where the bus has such.
    #[arg(value_parser = pattern)]
    topic: Topic,
    /// The group, which shares the messages with its other members, and stays when this command has ended.
    #[arg(long)]
    group: String,
    /// Where a group begins that is new.
    #[arg(long, value_name = "WHERE", default_value = "latest")]
    from: From,
    #[command(flatten)]
    extent: Extent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    Earliest,
    Latest,
}

pub(super) async fn run(options: Options) -> Result<Code, Failure> {
    let bus = options.connection.open().await?;
    on(bus, async |bus| options.watch(bus).await).await
}

impl Options {
    async fn watch(&self, bus: &Bus) -> Result<Code, Failure> {
        let start = match self.from {
            From::Earliest => Start::Earliest,
            From::Latest => Start::Latest,
        };
        let request = in_order(bus, &self.topic, &self.group, start);
        let mut deliveries = bus.subscribe(request).await.map_err(failure)?;
        let mut taken = 0;
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        while self.extent.left(taken) > 0 {
            let next = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                next = deliveries.next() => next,
                () = self.extent.grow_tired() => break,
            };
            let Some(next) = next else { break };
            let delivery = next.map_err(failure)?;
            {
                let mut out = stdout();
                json_line(&mut out, &MessageLine::from(&delivery))?;
                out.flush()?;
            }
            // Shown first: a message that is not acknowledged comes again, one that was not shown would be lost.
            delivery.ack().await.map_err(failure)?;
            taken += 1;
        }
        Ok(Code::Success)
    }
}

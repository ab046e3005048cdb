//! `bus bench`: so many messages through a bus, how fast they went, and whether all of them came.

mod load;
mod report;
mod stamp;
mod tally;

use std::{pin::pin, time::Duration};

use anyhow::anyhow;
use clap::{Args, value_parser};
use futures_util::{StreamExt, stream::FuturesUnordered};
use sagamill::bus::{Bus, Deliveries, Error, Order, OrderScope, Start, Subscribe, Topic};
use sagamill_service_kit::Shutdown;
use tokio::time::sleep;

use self::{
    load::{Load, Published},
    report::Report,
    stamp::{Run, STAMP},
    tally::Tally,
};
use super::{Connection, extent::seconds, failure, on, topic};
use crate::{
    failure::{Code, Failure},
    output::ItemFormat,
};

/// The group that takes the messages. It stays; a second run goes on where the first ended.
const GROUP: &str = "sagamill-bench";
/// Most messages that are delivered and not acknowledged.
const IN_FLIGHT: usize = 1_024;
/// Most messages of a run: of each it is remembered how often it came, and when.
const MESSAGES_MAX: i64 = 10_000_000;
const SIZE_MAX: i64 = sagamill::bus::limit::PAYLOAD as i64;
/// When all have come, what comes twice is waited for so long.
const QUIET: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// How many messages are published.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=MESSAGES_MAX))]
    messages: u32,
    /// How large the payload of each is.
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = value_parser!(u32).range(STAMP as i64..=SIZE_MAX))]
    size: u32,
    /// How many publish side by side.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u32).range(1..=1_000))]
    publishers: u32,
    /// How many messages each of them publishes together.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = value_parser!(u32).range(1..=1_000))]
    batch: u32,
    /// Where to: a topic that nobody else is subscribed to. One bench at a time uses it.
    #[arg(long, default_value = "sagamill-bench", value_parser = topic)]
    topic: Topic,
    /// What has not come is lost when nothing has come for so long.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    idle: Duration,
    /// How it looks.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ItemFormat,
}

pub(super) async fn run(options: Options) -> Result<Code, Failure> {
    let bus = options.connection.open().await?;
    on(bus, async |bus| options.bench(bus).await).await
}

impl Options {
    async fn bench(&self, bus: &Bus) -> Result<Code, Failure> {
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        // Before anything is published, so that nothing is missed; what an earlier run left is told apart.
        let request = Subscribe::new(self.topic.clone(), GROUP).start(Start::Latest);
        let request = request.order(Order::None).order_scope(OrderScope::None);
        let deliveries = bus.subscribe(request.max_in_flight(IN_FLIGHT)).await.map_err(failure)?;
        let run = Run::begin(self.messages);
        let load = Load::start(self, bus, &run);
        let (published, tally) = tokio::select! {
            biased;
            () = shutdown.requested() => {
                return Err(anyhow!("interrupted: nothing is said of speed and losses; run it again").into());
            }
            done = self.consume(deliveries, load, run) => done?,
        };
        if published.confirmed() == 0
            && let Some(error) = published.error
        {
            return Err(failure(error));
        }
        Report::new(self, bus.transport(), &published, tally).tell(self.output, published.error.as_ref())
    }
    /// Until all has come that was confirmed, or nothing comes any more.
    async fn consume(&self, mut deliveries: Deliveries, load: Load, run: Run) -> Result<(Published, Tally), Failure> {
        let mut load = pin!(load.finish());
        let mut published: Option<Published> = None;
        let (mut tally, mut acks) = (Tally::new(self.messages), FuturesUnordered::new());
        loop {
            let is_complete = published
                .as_ref()
                .is_some_and(|published| tally.is_complete(&published.failed));
            let patience = if is_complete { QUIET } else { self.idle };
            tokio::select! {
                biased;
                done = &mut load, if published.is_none() => published = Some(done?),
                Some(acked) = acks.next(), if !acks.is_empty() => complain(acked),
                next = deliveries.next() => match next {
                    Some(Ok(delivery)) => {
                        tally.see(run.read(&delivery.message.payload), run.elapsed());
                        acks.push(delivery.ack());
                    }
                    Some(Err(error)) => complain(Err(error)),
                    None => return Err(anyhow!("the bus ended the subscription").into()),
                },
                () = sleep(patience) => if let Some(published) = published.take() {
                    return Ok((published, tally));
                },
            }
        }
    }
}

/// Of the connection, or an acknowledgement that was not taken: its message comes again, and is counted as doubled.
fn complain(result: Result<(), Error>) {
    if let Err(error) = result {
        eprintln!("the bus says: {error}");
    }
}

//! The order service on its own.

use clap::Parser;
use sagamill::bus::Bus;
use shop_frame::{Service, on_database};
use shop_order::{Orders, Others};

/// The order service of the sample shop: takes orders over HTTP and hosts the saga that fulfils them.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    frame: shop_frame::Options,
    #[command(flatten)]
    others: Others,
    /// Takes no orders: one more process for the sagas of those that others take.
    #[arg(long, env = "SAGAMILL_SAGAS_ONLY")]
    sagas_only: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options: Options = shop_frame::parse("sqlite:order.db", "127.0.0.1:7701");
    shop_frame::run("order", &options.frame, |bus| open(&options, bus)).await
}

async fn open(options: &Options, bus: Bus) -> anyhow::Result<Box<dyn Service>> {
    let (database, books) = (&options.frame.database, options.others.clone().books()?);
    on_database!(database, D => {
        let orders = Orders::<D>::open(database, bus, books).await?;
        Ok(Box::new(if options.sagas_only { orders.sagas_only() } else { orders }))
    })
}

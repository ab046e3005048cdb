//! The shipping service on its own.

use clap::Parser;
use sagamill::bus::Bus;
use shop_frame::{Location, Service, on_database};
use shop_shipping::Shipping;

/// The shipping service of the sample shop: books carriers, cancels them, and sends confirmed orders on their way.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    frame: shop_frame::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Options { frame } = shop_frame::parse("sqlite:shipping.db", "127.0.0.1:7704");
    shop_frame::run("shipping", &frame, |bus| open(&frame.database, bus)).await
}

async fn open(database: &Location, bus: Bus) -> anyhow::Result<Box<dyn Service>> {
    on_database!(database, D => Ok(Box::new(Shipping::<D>::open(database, bus).await?)))
}

//! The inventory service on its own.

use clap::Parser;
use sagamill::bus::Bus;
use shop_frame::{Location, Service, on_database};
use shop_inventory::Inventory;

/// The inventory service of the sample shop: sets stock aside for orders, and gives it back.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    frame: shop_frame::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Options { frame } = shop_frame::parse("sqlite:inventory.db", "127.0.0.1:7702");
    shop_frame::run("inventory", &frame, |bus| open(&frame.database, bus)).await
}

async fn open(database: &Location, bus: Bus) -> anyhow::Result<Box<dyn Service>> {
    on_database!(database, D => Ok(Box::new(Inventory::<D>::open(database, bus).await?)))
}

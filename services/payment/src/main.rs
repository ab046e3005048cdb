//! The payment service on its own, with its fake provider.

use clap::Parser;
use sagamill::bus::Bus;
use shop_frame::{Location, Service, on_database};
use shop_payment::{Payment, Provider};

/// The payment service of the sample shop: has money held, captured and given back by a provider.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    frame: shop_frame::Options,
    /// Its fake provider's database, of the same kind.
    #[arg(
        long,
        value_name = "URL",
        env = "SAGAMILL_PROVIDER_DATABASE",
        default_value = "sqlite:provider.db"
    )]
    provider_database: Location,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options: Options = shop_frame::parse("sqlite:payment.db", "127.0.0.1:7703");
    shop_frame::run("payment", &options.frame, |bus| open(&options, bus)).await
}

async fn open(options: &Options, bus: Bus) -> anyhow::Result<Box<dyn Service>> {
    let database = &options.frame.database;
    on_database!(database, D => {
        let provider = Provider::<D>::open(&options.provider_database).await?;
        Ok(Box::new(Payment::open(database, bus, provider).await?))
    })
}

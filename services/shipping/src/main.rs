//! The shipping service on its own.

use std::path::PathBuf;

use clap::Parser;
use sagamill_service_kit::{LogFormat, Process};
use shop_shipping::Shipping;
use tokio::net::TcpListener;

/// The shipping service of the sample shop: books carriers for orders, and cancels them.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Its database file, made where it is missing.
    #[arg(long, env = "SAGAMILL_DATABASE", default_value = "shipping.db")]
    database: PathBuf,
    /// The bus that commands come from.
    #[arg(long, env = "SAGAMILL_BUS", default_value = "memory:")]
    bus: String,
    /// Where it answers over HTTP: /book, /livez, /readyz, /metrics.
    #[arg(long, env = "SAGAMILL_LISTEN", default_value = "127.0.0.1:7704")]
    listen: String,
    /// How its log looks: pretty or json.
    #[arg(long, env = "SAGAMILL_LOG_FORMAT", default_value_t)]
    log: LogFormat,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let process = Process::start(options.log, "info")?;
    let shipping = Shipping::open(&options.database).await?;
    let bus = sagamill::connect(&options.bus).await?;
    let listener = TcpListener::bind(&options.listen).await?;
    tracing::info!(listen = %listener.local_addr()?, bus = bus.transport(), "shipping is up");

    let health = process.health().check("database", shipping.check());
    let routes = shipping.routes();
    process
        .run(listener, health, routes, |stop| shipping.run(bus, stop))
        .await?;
    Ok(())
}

//! The inventory service on its own.

use std::path::PathBuf;

use clap::Parser;
use sagamill_service_kit::{LogFormat, Process};
use shop_inventory::Inventory;
use tokio::net::TcpListener;

/// The inventory service of the sample shop: sets stock aside for orders, and gives it back.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Its database file, made where it is missing.
    #[arg(long, env = "SAGAMILL_DATABASE", default_value = "inventory.db")]
    database: PathBuf,
    /// The bus that commands come from.
    #[arg(long, env = "SAGAMILL_BUS", default_value = "memory:")]
    bus: String,
    /// Where it answers over HTTP: /book, /livez, /readyz, /metrics.
    #[arg(long, env = "SAGAMILL_LISTEN", default_value = "127.0.0.1:7702")]
    listen: String,
    /// How its log looks: pretty or json.
    #[arg(long, env = "SAGAMILL_LOG_FORMAT", default_value_t)]
    log: LogFormat,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let process = Process::start(options.log, "info")?;
    let inventory = Inventory::open(&options.database).await?;
    let bus = sagamill::connect(&options.bus).await?;
    let listener = TcpListener::bind(&options.listen).await?;
    tracing::info!(listen = %listener.local_addr()?, bus = bus.transport(), "inventory is up");

    let health = process.health().check("database", inventory.check());
    let routes = inventory.routes();
    process
        .run(listener, health, routes, |stop| inventory.run(bus, stop))
        .await?;
    Ok(())
}

//! The payment service on its own, with its fake provider.

use std::path::PathBuf;

use clap::Parser;
use sagamill_service_kit::{LogFormat, Process};
use shop_payment::{Payment, Provider};
use tokio::net::TcpListener;

/// The payment service of the sample shop: has money held, captured and given back by a provider.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Its database file, made where it is missing.
    #[arg(long, env = "SAGAMILL_DATABASE", default_value = "payment.db")]
    database: PathBuf,
    /// Its fake provider's database file, made where it is missing.
    #[arg(long, env = "SAGAMILL_PROVIDER_DATABASE", default_value = "provider.db")]
    provider_database: PathBuf,
    /// The bus that commands come from.
    #[arg(long, env = "SAGAMILL_BUS", default_value = "memory:")]
    bus: String,
    /// Where it answers over HTTP: /book, /livez, /readyz, /metrics.
    #[arg(long, env = "SAGAMILL_LISTEN", default_value = "127.0.0.1:7703")]
    listen: String,
    /// How its log looks: pretty or json.
    #[arg(long, env = "SAGAMILL_LOG_FORMAT", default_value_t)]
    log: LogFormat,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let process = Process::start(options.log, "info")?;
    let provider = Provider::open(&options.provider_database).await?;
    let payment = Payment::open(&options.database, provider).await?;
    let bus = sagamill::connect(&options.bus).await?;
    let listener = TcpListener::bind(&options.listen).await?;
    tracing::info!(listen = %listener.local_addr()?, bus = bus.transport(), "payment is up");

    let health = process.health().check("database", payment.check());
    let routes = payment.routes();
    process
        .run(listener, health, routes, |stop| payment.run(bus, stop))
        .await?;
    Ok(())
}

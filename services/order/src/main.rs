//! The order service on its own.

use std::{path::PathBuf, sync::Arc};

use clap::Parser;
use sagamill_service_kit::{Intake, LogFormat, Process};
use shop_contracts::{
    Answering, BooksError, InventoryBooks, PaymentBook, PaymentBooks, ShippingBook, ShippingBooks, StockBook,
    StockLevel,
};
use shop_order::{Books, Orders};
use tokio::net::TcpListener;

/// The order service of the sample shop: takes orders over HTTP and hosts the saga that fulfils them.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Its database file, made where it is missing.
    #[arg(long, env = "SAGAMILL_DATABASE", default_value = "order.db")]
    database: PathBuf,
    /// The bus by which the other services are asked.
    #[arg(long, env = "SAGAMILL_BUS", default_value = "memory:")]
    bus: String,
    /// Where it answers over HTTP: /orders, /livez, /readyz, /metrics.
    #[arg(long, env = "SAGAMILL_LISTEN", default_value = "127.0.0.1:7701")]
    listen: String,
    /// How its log looks: pretty or json.
    #[arg(long, env = "SAGAMILL_LOG_FORMAT", default_value_t)]
    log: LogFormat,
}

/// The others' books, where no way to them is known: /catalog and /ledger answer 503.
#[derive(Debug)]
struct Unconnected;

fn unconnected<T>(service: &'static str) -> Answering<'static, T> {
    Box::pin(async move { Err(BooksError::new(service, "this process is not connected to it")) })
}
impl InventoryBooks for Unconnected {
    fn stock(&self) -> Answering<'_, Vec<StockLevel>> {
        unconnected("inventory")
    }
    fn book(&self) -> Answering<'_, StockBook> {
        unconnected("inventory")
    }
}
impl PaymentBooks for Unconnected {
    fn book(&self) -> Answering<'_, PaymentBook> {
        unconnected("payment")
    }
}
impl ShippingBooks for Unconnected {
    fn book(&self) -> Answering<'_, ShippingBook> {
        unconnected("shipping")
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let process = Process::start(options.log, "info")?;
    let bus = sagamill::connect(&options.bus).await?;
    let transport = bus.transport();
    let books = Books {
        inventory: Arc::new(Unconnected),
        payment: Arc::new(Unconnected),
        shipping: Arc::new(Unconnected),
    };
    let orders = Orders::open(&options.database, bus, books).await?;
    let listener = TcpListener::bind(&options.listen).await?;
    tracing::info!(listen = %listener.local_addr()?, bus = transport, "order is up");

    let health = process.health().check("database", orders.check());
    let routes = orders.routes(Intake::new(process.shutdown.tasks().clone()));
    process
        .run(listener, health, routes, |stop| Box::pin(orders.run(stop)))
        .await?;
    Ok(())
}

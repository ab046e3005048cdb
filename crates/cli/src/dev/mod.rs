//! `sagamill dev`: the sample shop in one process.
//!
//! `databases.rs` is where its data is, `shop.rs` the services, `console.rs` what is printed, `line.rs` how a saga looks
//! there.

mod console;
mod databases;
mod line;
mod shop;

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use reqwest::Url;
use sagamill_service_kit::{Frontdoor, Intake, LogFormat, Process, Shutdown, serve};
use shop_frame::{Db, Service};
use shop_order::Orders;
use sqlx::{Postgres, Sqlite};
use tokio::net::TcpListener;

use crate::{
    failure::{Code, Failure},
    load::{Load, Pace},
    source::Server,
};
use console::Console;
use databases::Databases;
use shop::Shop;

/// How long running sagas are waited for at the end; those that still run go on when the directory is used again.
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the databases are, made where it is missing; else a new temporary directory.
    #[arg(long, value_name = "DIR", env = "SAGAMILL_DATA", conflicts_with = "store")]
    data: Option<PathBuf>,
    /// A PostgreSQL server in place of files: `postgres://user@host:port`. Each service has a database of its own there,
    /// `sagamill_order` and so on, made where it is missing.
    #[arg(long, value_name = "URL", env = "SAGAMILL_STORE", value_parser = server)]
    store: Option<Server>,
    /// The bus between the services, `memory:` or any that this build knows: `nats://host`, `postgres://user@host/bus`,
    /// `sqlite:FILE`. What was under way on it goes on when the same data is used again.
    #[arg(
        long,
        value_name = "URL",
        env = "SAGAMILL_BUS",
        hide_env_values = true,
        default_value = "memory:"
    )]
    bus: String,
    /// Where the shop answers over HTTP.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7700")]
    listen: String,
    #[command(flatten)]
    pace: Pace,
    /// Order nothing by itself.
    #[arg(long)]
    no_load: bool,
    /// How a saga that has ended looks.
    #[arg(short, long, value_name = "FORMAT", default_value = "pretty")]
    output: Format,
    /// How the log on stderr looks: pretty or json.
    #[arg(long, value_name = "FORMAT", default_value_t)]
    log: LogFormat,
}

/// How a saga that has ended looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for people.
    Pretty,
    /// An object a line.
    Json,
}

fn server(url: &str) -> Result<Server, String> {
    let server: Server = url.parse()?;
    if server.names_one() {
        return Err("the services have databases of their own: leave the database out".to_owned());
    }
    Ok(server)
}

pub(crate) async fn run(options: Options) -> Result<Code, Failure> {
    let process = Process::start(options.log, "warn").context("cannot start")?;
    match &options.store {
        None => {
            let databases = Databases::files(options.data.clone())?;
            run_on::<Sqlite>(process, options, databases).await
        }
        Some(server) => {
            let databases = Databases::server(server).await?;
            run_on::<Postgres>(process, options, databases).await
        }
    }
}

async fn run_on<D: Db>(process: Process, options: Options, databases: Databases) -> Result<Code, Failure> {
    let listener = bind(&options.listen).await?;
    let address = listener.local_addr()?;
    let bus = sagamill::connect(&options.bus)
        .await
        .context("cannot connect to the bus")
        .map_err(|error| Failure::new(Code::Unavailable, error))?;
    let shop = Shop::<D>::open(&databases, bus.clone()).await?;
    let console = Console::new(options.output, process.shutdown.clone());
    let rate = if options.no_load { 0.0 } else { options.pace.rate };
    let pace = Pace { rate, ..options.pace };
    let banner = &format!(
        "sagamill dev\n  shop     http://{address}  /catalog /orders /ledger /metrics /readyz\n  data     {databases}\n  bus      {}\n  load     {}",
        bus.transport(),
        load_line(pace),
    );
    console.say(banner).await;
    let ended = run_shop(
        process,
        shop,
        listener,
        console.clone(),
        Load::new(pace, &local(address)),
    )
    .await;
    // A bus that is not closed leaves its messages in doubt to whoever comes next.
    let closed = bus.close().await;
    console.say(&format!("the data is in {databases}")).await;
    let verdict = ended?;
    closed.context("the bus was not closed well")?;
    Ok(verdict)
}

fn load_line(Pace { rate, seed }: Pace) -> String {
    if rate > 0.0 {
        format!("{rate} orders/s, one in four fails by design (--rate, --no-load; --seed {seed})")
    } else {
        "none: POST /orders".to_owned()
    }
}

async fn bind(listen: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(listen).await.map_err(|error| {
        let code = match error.kind() {
            io::ErrorKind::InvalidInput => Code::Usage,
            _ => Code::Unavailable,
        };
        let hint = if error.kind() == io::ErrorKind::AddrInUse {
            "; choose another with --listen"
        } else {
            ""
        };
        Failure::new(code, anyhow!("cannot listen on {listen}: {error}{hint}"))
    })
}

/// Where this process reaches itself, also where it listens everywhere.
fn local(address: SocketAddr) -> Url {
    let ip = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        other => other.ip(),
    };
    let address = SocketAddr::new(ip, address.port());
    Url::parse(&format!("http://{address}")).expect("invariant: an address is an authority")
}

/// In two phases: first the way in is closed and running sagas end, then the services stop.
async fn run_shop<D: Db>(
    process: Process,
    shop: Shop<D>,
    listener: TcpListener,
    console: Console,
    load: Load,
) -> Result<Code, Failure> {
    let (shutdown, orders) = (process.shutdown.clone(), shop.orders.clone());
    let health = shop.checks(process.health());
    let routes = orders.routes(Intake::new(shutdown.tasks().clone()));
    let routes = Frontdoor {
        health,
        metrics: process.metrics.clone(),
    }
    .around(routes);

    let mut services = shop.start(&console);
    let stop = shutdown.token();
    // The door closes behind the load, so that no order of its own is turned away.
    let door = Shutdown::new();
    let http = async {
        let served = serve(listener, routes, &door).await;
        shutdown.begin();
        served
    };
    let customers = async {
        load.run(stop.clone()).await;
        stop.cancelled().await;
        door.begin();
    };
    let intake = async { tokio::join!(http, customers, console.watch_ledger(&orders, stop.clone())).0 };
    let (served, failed) = tokio::join!(intake, services.first_failure(stop.clone()));
    if failed.is_none() {
        drain(&orders, &console).await;
    }
    let verdict = console.last_ledger(&orders).await;
    let stopped = services.stop().await;
    shutdown.finished().await;
    failed.map_or(stopped, Err)?;
    served.context("HTTP stopped")?;
    Ok(verdict)
}

async fn drain<D: Db>(orders: &Orders<D>, console: &Console) {
    match tokio::time::timeout(DRAIN, orders.drained()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot tell whether sagas still run"),
        Err(_) => {
            let left = orders.in_flight().await.unwrap_or_default();
            console
                .say(&format!(
                    "{left} sagas still run; they go on when the same --data is used again"
                ))
                .await;
        }
    }
}

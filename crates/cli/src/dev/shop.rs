//! All services in this process, each over its own databases, with a bus between them.

use std::time::Duration;

use anyhow::{Context, anyhow};
use sagamill::bus::{BoxError, Bus};
use sagamill_service_kit::Health;
use shop_frame::{Db, Service};
use shop_inventory::Inventory;
use shop_order::{Books, Orders};
use shop_payment::{Payment, Provider};
use shop_shipping::Shipping;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{console::Console, databases::Databases};
use crate::failure::Failure;

/// How long the services may take to stop.
const STOP: Duration = Duration::from_secs(10);

type Ended = (&'static str, Result<(), BoxError>);

/// The services, opened.
#[derive(Debug)]
pub(crate) struct Shop<D: Db> {
    pub(crate) orders: Orders<D>,
    inventory: Inventory<D>,
    payment: Payment<D>,
    shipping: Shipping<D>,
}

impl<D: Db> Shop<D> {
    /// Opens the database of each service, with this bus between them.
    pub(crate) async fn open(databases: &Databases, bus: Bus) -> anyhow::Result<Self> {
        let at = |name| databases.of(name);
        let inventory = Inventory::open(&at("inventory"), bus.clone())
            .await
            .context("inventory")?;
        let provider = Provider::open(&at("provider")).await.context("payment provider")?;
        let payment = Payment::open(&at("payment"), bus.clone(), provider)
            .await
            .context("payment")?;
        let shipping = Shipping::open(&at("shipping"), bus.clone()).await.context("shipping")?;
        let books = Books {
            stock: inventory.stock(),
            inventory: inventory.book(),
            payment: payment.book(),
            shipping: shipping.book(),
        };
        let orders = Orders::open(&at("order"), bus, books).await.context("order")?;
        Ok(Self {
            orders,
            inventory,
            payment,
            shipping,
        })
    }
    /// Adds each service's check.
    pub(crate) fn checks(&self, health: Health) -> Health {
        health
            .check("order", self.orders.check())
            .check("inventory", self.inventory.check())
            .check("payment", self.payment.check())
            .check("shipping", self.shipping.check())
    }
    /// Starts them: those that are asked first, and the one that asks last.
    pub(crate) fn start(self, console: &Console) -> Services {
        let Self {
            orders,
            inventory,
            payment,
            shipping,
        } = self;
        let (stop, services_stop) = (CancellationToken::new(), CancellationToken::new());
        let mut running = JoinSet::new();
        let (watched, printer, token) = (orders.clone(), console.printer(), stop.clone());
        // The console reads the order service's log, which that closes in the end: so it goes first.
        let console_is_over = services_stop.clone().drop_guard();
        running.spawn(async move {
            let ended = watched.follow("console", printer, token).await;
            drop(console_is_over);
            ("console", ended.map_err(BoxError::from))
        });
        let services: [(_, Box<dyn Service>); 4] = [
            ("inventory", Box::new(inventory)),
            ("payment", Box::new(payment)),
            ("shipping", Box::new(shipping)),
            ("order", Box::new(orders)),
        ];
        for (name, service) in services {
            let service = service.run(services_stop.clone());
            running.spawn(async move { (name, service.await) });
        }
        Services { running, stop }
    }
}

/// The services, running.
#[derive(Debug)]
pub(crate) struct Services {
    running: JoinSet<Ended>,
    /// Stops the console, and then the services.
    stop: CancellationToken,
}

impl Services {
    /// Waits until somebody asks for the end, or until a service ends before that, which ends all.
    pub(crate) async fn first_failure(&mut self, asked: CancellationToken) -> Option<Failure> {
        tokio::select! {
            () = asked.cancelled() => None,
            ended = self.running.join_next() => {
                asked.cancel();
                let early = |name| anyhow!("the {name} service ended by itself");
                Some(match ended.map(outcome) {
                    Some(Ok(name)) => early(name).into(),
                    Some(Err(error)) => error.into(),
                    None => early("last").into(),
                })
            }
        }
    }
    /// Stops them and waits for them, but not for ever.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        self.stop.cancel();
        let all = async {
            let mut first = Ok(());
            while let Some(ended) = self.running.join_next().await {
                first = first.and(outcome(ended).map(drop));
            }
            first
        };
        let stopped = tokio::time::timeout(STOP, all).await;
        stopped.unwrap_or_else(|_| Err(anyhow!("the services did not stop within {} s", STOP.as_secs())))?;
        Ok(())
    }
}

fn outcome(ended: Result<Ended, JoinError>) -> anyhow::Result<&'static str> {
    let (name, ended) = ended.context("a service panicked")?;
    ended
        .map_err(|error| anyhow!(error))
        .with_context(|| format!("the {name} service stopped"))?;
    Ok(name)
}

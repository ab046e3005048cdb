//! All services in this process, each over its own databases, with a bus between them.

use std::{path::Path, time::Duration};

use anyhow::{Context, anyhow};
use sagamill::bus::Bus;
use sagamill_service_kit::Health;
use shop_inventory::Inventory;
use shop_order::{Books, Orders};
use shop_payment::{Payment, Provider};
use shop_shipping::Shipping;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::console::Console;
use crate::{failure::Failure, source::LOG};

/// How long the services may take to stop.
const STOP: Duration = Duration::from_secs(10);

type Ended = (&'static str, anyhow::Result<()>);

/// The services, opened.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) orders: Orders,
    inventory: Inventory,
    payment: Payment,
    shipping: Shipping,
    bus: Bus,
}

impl Shop {
    /// Opens all databases of a directory.
    pub(crate) async fn open(directory: &Path) -> anyhow::Result<Self> {
        let bus = sagamill::connect("memory:").await?;
        let file = |name: &str| directory.join(name);
        let inventory = Inventory::open(&file("inventory.db")).await.context("inventory")?;
        let provider = Provider::open(&file("provider.db")).await.context("payment provider")?;
        let payment = Payment::open(&file("payment.db"), provider).await.context("payment")?;
        let shipping = Shipping::open(&file("shipping.db")).await.context("shipping")?;
        let books = Books {
            inventory: inventory.books(),
            payment: payment.books(),
            shipping: shipping.books(),
        };
        let orders = Orders::open(&file(LOG), bus.clone(), books).await.context("order")?;
        Ok(Self {
            orders,
            inventory,
            payment,
            shipping,
            bus,
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
            bus,
        } = self;
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let (watched, printer, token) = (orders.clone(), console.printer(), stop.clone());
        running.spawn(async move {
            (
                "console",
                watched.follow("console", printer, token).await.map_err(Into::into),
            )
        });
        let (asked, token) = (bus.clone(), stop.clone());
        running.spawn(async move { ("inventory", inventory.run(asked, token).await.map_err(Into::into)) });
        let (asked, token) = (bus.clone(), stop.clone());
        running.spawn(async move { ("payment", payment.run(asked, token).await.map_err(Into::into)) });
        let token = stop.clone();
        running.spawn(async move { ("shipping", shipping.run(bus, token).await.map_err(Into::into)) });
        let token = stop.clone();
        running.spawn(async move { ("order", orders.run(token).await.map_err(Into::into)) });
        Services { running, stop }
    }
}

/// The services, running.
#[derive(Debug)]
pub(crate) struct Services {
    running: JoinSet<Ended>,
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
    ended.with_context(|| format!("the {name} service stopped"))?;
    Ok(name)
}

//! Who orders: a small load from a seeded random number generator, over HTTP like any other customer's. `dev` has its own,
//! `sagamill load` is one for a shop of several processes.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use reqwest::Url;
use sagamill_service_kit::{LogFormat, Process};
use serde_json::{Value, json};
use shop_contracts::{CATALOGUE, Delivery};
use shop_payment::LIMIT;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::failure::{Code, Failure};

/// Most orders a second.
const RATE_MAX: f64 = 1_000.0;
/// Most orders that wait for their answer at once; at the bound the load waits.
const OPEN_MAX: usize = 64;
/// How often one order is posted, under the same key, before it is given up.
const TRIES: u32 = 3;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Of so many orders one is meant to fail.
const FAILS_ONE_IN: u32 = 4;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the shop's order service answers: `http://localhost:7701`.
    #[arg(value_name = "URL", env = "SAGAMILL_ORDER", value_parser = shop)]
    shop: Url,
    #[command(flatten)]
    pace: Pace,
    /// How the log on stderr looks: pretty or json.
    #[arg(long, value_name = "FORMAT", env = "SAGAMILL_LOG_FORMAT", default_value_t)]
    log: LogFormat,
}

/// How much is ordered, and what.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Pace {
    /// Orders a second; 0 is none.
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// What the orders are drawn from: the same number, the same orders.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.0..=RATE_MAX).contains(&rate) => Ok(rate),
        _ => Err(format!("orders a second are 0 to {RATE_MAX}")),
    }
}

fn shop(text: &str) -> Result<Url, String> {
    let url: Url = text
        .parse()
        .map_err(|error| format!("{error}: http://host:port is wanted"))?;
    match url.scheme() {
        "http" if url.has_host() => Ok(url),
        other => Err(format!("`{other}:` is not spoken here: http://host:port is wanted")),
    }
}

/// `sagamill load`: orders until SIGINT or SIGTERM.
pub(crate) async fn run(options: Options) -> Result<Code, Failure> {
    let process = Process::start(options.log, "info").context("cannot start")?;
    let Pace { rate, seed } = options.pace;
    tracing::info!(shop = %options.shop, rate, seed, "ordering");
    Load::new(options.pace, &options.shop)
        .run(process.shutdown.token().clone())
        .await;
    Ok(Code::Success)
}

const CUSTOMERS: [&str; 6] = ["ada", "edsger", "grace", "leslie", "barbara", "tony"];

/// How an order is meant to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Completes,
    OutOfStock,
    Declined,
    CarrierDown,
}

/// The first orders show all there is to see; from then on chance decides.
const OVERTURE: [Fate; 4] = [Fate::Completes, Fate::CarrierDown, Fate::Declined, Fate::OutOfStock];

/// Orders, drawn from a seed.
#[derive(Debug)]
struct Orders {
    random: SmallRng,
    drawn: usize,
}

impl Orders {
    fn new(seed: u64) -> Self {
        Self {
            random: SmallRng::seed_from_u64(seed),
            drawn: 0,
        }
    }
    fn draw(&mut self) -> Value {
        let fate = OVERTURE.get(self.drawn).copied().unwrap_or_else(|| self.fate());
        self.drawn += 1;
        let mut items = self.items();
        match fate {
            Fate::Completes => {}
            Fate::OutOfStock => items.push(json!({ "sku": pick(|a| a.stock == 0), "quantity": 1 })),
            Fate::Declined => items.push(json!({ "sku": pick(|a| a.price > LIMIT), "quantity": 1 })),
            Fate::CarrierDown => items.push(json!({ "sku": pick(|a| a.delivery == Delivery::Freight), "quantity": 1 })),
        }
        let customer = CUSTOMERS.choose(&mut self.random).copied().unwrap_or(CUSTOMERS[0]);
        json!({ "customer": customer, "items": items })
    }
    fn fate(&mut self) -> Fate {
        if self.random.random_range(0..FAILS_ONE_IN) > 0 {
            return Fate::Completes;
        }
        [Fate::OutOfStock, Fate::Declined, Fate::CarrierDown][self.random.random_range(0..3)]
    }
    /// One to three articles that can be had.
    fn items(&mut self) -> Vec<Value> {
        let ordinary: Vec<_> = CATALOGUE
            .iter()
            .filter(|article| article.stock > 0 && article.price <= LIMIT && article.delivery == Delivery::Parcel)
            .collect();
        let count = self.random.random_range(1..=3);
        let chosen: Vec<_> = ordinary.choose_multiple(&mut self.random, count).collect();
        let item = |sku: &str, quantity: u32| json!({ "sku": sku, "quantity": quantity });
        chosen
            .into_iter()
            .map(|article| item(article.sku, self.random.random_range(1..=3)))
            .collect()
    }
}

fn pick(fits: fn(&shop_contracts::Article) -> bool) -> &'static str {
    CATALOGUE
        .iter()
        .find(|article| fits(article))
        .map_or("unknown", |article| article.sku)
}

/// A load on one shop.
#[derive(Debug)]
pub(crate) struct Load {
    rate: f64,
    orders: Orders,
    url: Url,
}

impl Load {
    /// To the shop whose order service answers at this address.
    pub(crate) fn new(pace: Pace, shop: &Url) -> Self {
        let mut url = shop.clone();
        url.set_path("/orders");
        Self {
            rate: pace.rate,
            orders: Orders::new(pace.seed),
            url,
        }
    }
    /// Orders until `stop`, then waits for the answers.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        if self.rate <= 0.0 {
            return;
        }
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build();
        let Ok(client) = client.inspect_err(|error| tracing::error!(%error, "cannot order")) else {
            return;
        };
        let mut ticks = interval_at(Instant::now(), Duration::from_secs_f64(1.0 / self.rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut open = JoinSet::new();
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            while open.try_join_next().is_some() {}
            if open.len() >= OPEN_MAX {
                open.join_next().await;
            }
            open.spawn(post(client.clone(), self.url.clone(), self.orders.draw()));
        }
        while open.join_next().await.is_some() {}
    }
}

/// Posts one order, again under the same key where its answer was lost.
async fn post(client: reqwest::Client, url: Url, order: Value) {
    let key = Uuid::now_v7().to_string();
    for attempt in 1..=TRIES {
        let answer = client
            .post(url.clone())
            .header("idempotency-key", &key)
            .json(&order)
            .send()
            .await;
        match answer {
            Ok(answer) if answer.status().is_server_error() => {
                tracing::warn!(attempt, status = %answer.status(), "an order was not taken");
            }
            Ok(answer) if answer.status().is_success() => return,
            Ok(answer) => return tracing::error!(status = %answer.status(), "an order was refused"),
            Err(error) => tracing::warn!(attempt, %error, "an order got no answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_draws_the_same_orders() {
        let draw = |seed| {
            let mut orders = Orders::new(seed);
            (0..100).map(|_| orders.draw().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn about_one_in_four_is_meant_to_fail() {
        let mut orders = Orders::new(1);
        let failing = ["samovar", "golden-teapot", "urn"];
        let drawn: Vec<_> = (0..1_000).map(|_| orders.draw().to_string()).collect();
        for sku in failing {
            let count = drawn.iter().filter(|order| order.contains(sku)).count();
            assert!((50..=120).contains(&count), "{sku}: {count}");
        }
    }
}

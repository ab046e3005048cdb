//! Customers: orders over HTTP, some of which fail by design, each posted until it is taken.

use std::{net::SocketAddr, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::books::{block_on, spawn};

/// The pause between two orders: less than two processors are saturated by, where a fault would be seen through a queue.
const PAUSE: Duration = Duration::from_millis(100);
/// The pause before an order is posted again that got no answer, or none that is final.
const AGAIN: Duration = Duration::from_millis(100);
/// So many sagas in flight are enough: more would only tell how fast the machine is.
const ENOUGH: usize = 12;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Load {
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

impl Load {
    pub(super) fn start(shop: SocketAddr, seed: u64) -> Self {
        let stop = CancellationToken::new();
        let running = spawn(order(shop, seed, stop.clone()));
        Self {
            stop,
            running: Some(running),
        }
    }
    /// Waits for the orders that are on their way.
    pub(super) fn stop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            block_on(running).expect("nobody is refused");
        }
    }
}

async fn order(shop: SocketAddr, seed: u64, stop: CancellationToken) {
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build();
    let client = client.expect("an HTTP client can be made");
    let mut dice = SmallRng::seed_from_u64(seed);
    let mut open = tokio::task::JoinSet::new();
    while stop.run_until_cancelled(sleep(PAUSE)).await.is_some() {
        while let Some(posted) = open.try_join_next() {
            posted.expect("nobody is refused");
        }
        let url = format!("http://{shop}/orders");
        if open.len() + in_flight(&client, &url).await < ENOUGH {
            open.spawn(post(client.clone(), url, draw(&mut dice)));
        }
    }
    while let Some(posted) = open.join_next().await {
        posted.expect("nobody is refused");
    }
}

/// None, as far as is known, where the shop does not answer: those that are posted meanwhile are few.
async fn in_flight(client: &reqwest::Client, url: &str) -> usize {
    let pending = client.get(format!("{url}?status=pending&limit={ENOUGH}")).send();
    let Ok(answer) = pending.await else { return 0 };
    let orders: Value = answer.json().await.unwrap_or_default();
    orders["orders"].as_array().map_or(0, Vec::len)
}

/// Every fourth order fails by design: no stock, declined, or the carrier is down.
fn draw(dice: &mut SmallRng) -> Value {
    let mut items = vec![json!({ "sku": "teapot", "quantity": dice.random_range(1..=3) })];
    if dice.random_ratio(1, 2) {
        items.push(json!({ "sku": "kettle", "quantity": 1 }));
    }
    if dice.random_ratio(1, 4) {
        let fails = ["samovar", "golden-teapot", "urn"][dice.random_range(0..3)];
        items.push(json!({ "sku": fails, "quantity": 1 }));
    }
    json!({ "customer": "ada", "items": items })
}

/// Under one key until the answer is final, so that an order whose answer was lost is not placed twice.
async fn post(client: reqwest::Client, url: String, order: Value) {
    let key = uuid::Uuid::now_v7().to_string();
    loop {
        let post = client.post(&url).header("idempotency-key", &key).json(&order);
        match post.send().await {
            Ok(answer) if answer.status().is_success() => return,
            Ok(answer) if answer.status().is_client_error() => panic!("an order was refused: {answer:?}"),
            _ => sleep(AGAIN).await,
        }
    }
}

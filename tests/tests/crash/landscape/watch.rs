//! Which orders are in flight, asked of the order service's own table.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};

use super::place::Place;
use crate::{books::block_on, recovery::Recovery};

/// How often it is looked whether sagas have ended.
const LOOK: Duration = Duration::from_millis(20);
/// How long the last of all sagas may take after the last fault, with nothing more to disturb it.
const END: Duration = Duration::from_secs(120);

pub(super) struct Watch {
    url: String,
}

impl Watch {
    pub(super) fn of(place: &Place) -> Self {
        Self {
            url: place.url("order").to_owned(),
        }
    }
    /// A fault comes at this moment: what is in flight has been caught by it.
    pub(super) fn begin(&self, recovery: &mut Recovery, at: Instant) {
        recovery.begin(self.in_flight(), at);
    }
    /// Waits until all that was caught has ended, or for so long.
    pub(super) fn follow(&self, recovery: &mut Recovery, patience: Duration) {
        let end = Instant::now() + patience;
        while !recovery.is_over() && Instant::now() < end {
            let left = self.in_flight();
            let now = Instant::now();
            for saga in recovery.waiting().difference(&left).cloned().collect::<Vec<_>>() {
                recovery.ended(&saga, now);
            }
            std::thread::sleep(LOOK);
        }
    }
    /// A saga that does not end, or that is parked, is what this test is there to find.
    pub(super) fn let_all_end(&self, when: &str, logs: &Path) {
        let (end, mut first) = (Instant::now() + END, self.in_flight());
        while !first.is_empty() {
            let parked = self.orders("parked");
            assert!(
                parked.is_empty(),
                "parked after {when}: {parked:?}; see {}",
                logs.display()
            );
            assert!(
                Instant::now() < end,
                "still in flight {END:?} after {when}: {first:?}; see {}",
                logs.display()
            );
            std::thread::sleep(LOOK);
            let left = self.in_flight();
            first.retain(|saga| left.contains(saga));
        }
    }
    fn in_flight(&self) -> BTreeSet<String> {
        self.orders("pending")
    }
    fn orders(&self, status: &str) -> BTreeSet<String> {
        block_on(async {
            loop {
                // The server may be about to come back, or to cut all connections.
                match self.ask(status).await {
                    Ok(orders) => return orders,
                    Err(_) => tokio::time::sleep(LOOK).await,
                }
            }
        })
    }
    async fn ask(&self, status: &str) -> sqlx::Result<BTreeSet<String>> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let all = "select 'order-' || number from orders where status = $1";
        let orders: Vec<String> = sqlx::query_scalar(all).bind(status).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(orders.into_iter().collect())
    }
}

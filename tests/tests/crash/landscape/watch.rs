//! Which orders are in flight, asked of the order service's own table.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use tokio::sync::Mutex;

use super::place::Place;
use crate::{books::block_on, recovery::Recovery};

/// How often it is looked whether sagas have ended.
const LOOK: Duration = Duration::from_millis(20);
/// How long the last of all sagas may take after the last fault, with nothing more to disturb it.
const END: Duration = Duration::from_secs(120);

pub(super) struct Watch {
    url: String,
    /// Kept from look to look: a new one costs the server a process.
    connection: Mutex<Option<PgConnection>>,
}

impl Watch {
    pub(super) fn of(place: &Place) -> Self {
        Self {
            url: place.url("order").to_owned(),
            connection: Mutex::default(),
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
                "still in flight {END:?} after {when}: {first:?}; see {}\n{}",
                logs.display(),
                self.story(first.first().expect("invariant: there is one"))
            );
            std::thread::sleep(LOOK);
            let left = self.in_flight();
            first.retain(|saga| left.contains(saga));
        }
    }
    /// What the log says of a saga, and of those who have to do with it.
    pub(super) fn story(&self, saga: &str) -> String {
        const EVENTS: &str = "select concat_ws(' ', pos, version, type, recorded_at, convert_from(payload, 'UTF8'))
            from es.event where stream_id = 'saga-place-order/' || $1 order by pos";
        const SUBSCRIPTIONS: &str = "select concat_ws(' ', name, min(pos), max(pos), count(distinct owner), min(fence), max(fence),
            min(lease_until) - clock_timestamp(), (select max(pos) from es.event)) from es.checkpoint where $1 <> '' group by name";
        block_on(async {
            let mut story = Vec::new();
            for query in [EVENTS, SUBSCRIPTIONS] {
                match self.lines(query, saga).await {
                    Ok(lines) => story.extend(lines),
                    Err(error) => story.push(error.to_string()),
                }
            }
            story.join("\n")
        })
    }
    async fn lines(&self, query: &'static str, about: &str) -> sqlx::Result<Vec<String>> {
        let mut kept = self.connection.lock().await;
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => PgConnection::connect(&self.url).await?,
        };
        let lines = sqlx::query_scalar(query).bind(about).fetch_all(&mut connection).await?;
        *kept = Some(connection);
        Ok(lines)
    }
    fn in_flight(&self) -> BTreeSet<String> {
        self.orders("pending")
    }
    fn orders(&self, status: &str) -> BTreeSet<String> {
        const ORDERS: &str = "select 'order-' || number from orders where status = $1";
        block_on(async {
            loop {
                // The server may be about to come back, or to cut all connections.
                match self.lines(ORDERS, status).await {
                    Ok(orders) => return orders.into_iter().collect(),
                    Err(_) => tokio::time::sleep(LOOK).await,
                }
            }
        })
    }
}

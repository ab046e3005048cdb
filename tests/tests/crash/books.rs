//! The books of a shop: its databases, opened from outside, held against what the sagas say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use sagamill::{
    eventstore::EventStore,
    saga::core::{SagaEvent, Summary, SummaryState},
};
use shop_frame::{Db, Location, Row, on_database};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

/// Where the databases of a shop's services are.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    order: Location,
    inventory: Location,
    payment: Location,
    provider: Location,
    shipping: Location,
}

impl Books {
    pub(crate) fn new(of: impl Fn(&str) -> Location) -> Self {
        Self {
            order: of("order"),
            inventory: of("inventory"),
            payment: of("payment"),
            provider: of("provider"),
            shipping: of("shipping"),
        }
    }

    /// The sagas that have not ended.
    pub(crate) async fn in_flight(&self) -> BTreeSet<String> {
        let running = |summary: &Summary| !matches!(summary.state, SummaryState::Completed | SummaryState::Compensated);
        let sagas = self.sagas().await.into_iter();
        sagas
            .filter(|(_, summary)| running(summary))
            .map(|(saga, _)| saga)
            .collect()
    }

    /// Holds all effects against the ends of their sagas; answers how many sagas there are.
    pub(crate) async fn check(&self) -> usize {
        let sagas = self.sagas().await;
        let mut wrong = Vec::new();
        let mut completed = BTreeSet::new();
        for (order, summary) in &sagas {
            match summary.state {
                SummaryState::Completed => drop(completed.insert(order.clone())),
                SummaryState::Compensated => {}
                _ => wrong.push(format!("{order} is {:?}: {:?}", summary.state, summary.reason)),
            }
        }
        self.check_orders(&sagas, &completed, &mut wrong).await;
        self.check_stock(&completed, &mut wrong).await;
        self.check_money(&completed, &mut wrong).await;
        self.check_shipments(&completed, &mut wrong).await;
        assert!(
            wrong.is_empty(),
            "{} wrong in {:?}:\n{}",
            wrong.len(),
            self.order,
            wrong.join("\n")
        );
        sagas.len()
    }

    async fn sagas(&self) -> BTreeMap<String, Summary> {
        let mut sagas = BTreeMap::new();
        if matches!(&self.order, Location::File(file) if !file.exists()) {
            return sagas;
        }
        let store = EventStore::connect(&self.order.url()).await.expect("the log opens");
        let mut events = store.read_all().category("saga");
        while let Some(event) = events.next().await {
            let entry = SagaEvent::decode(&event.expect("the log can be read")).expect("an event of a saga");
            let key = entry.identity.key.to_string();
            let before = sagas.remove(&key);
            sagas.insert(key, Summary::fold(before, &entry));
        }
        store.close().await;
        sagas
    }

    /// Every order has its saga, and is confirmed where that is completed.
    async fn check_orders(
        &self,
        sagas: &BTreeMap<String, Summary>,
        completed: &BTreeSet<String>,
        wrong: &mut Vec<String>,
    ) {
        let all = "select number, confirmed_at is not null from orders";
        let orders: Vec<(i64, bool)> = rows(&self.order, all).await;
        let orders: BTreeMap<String, bool> = orders
            .into_iter()
            .map(|(number, confirmed)| (format!("order-{number}"), confirmed))
            .collect();
        for (order, confirmed) in &orders {
            if !sagas.contains_key(order) {
                wrong.push(format!("{order} has no saga"));
            }
            if *confirmed != completed.contains(order) {
                wrong.push(format!("{order} is {}confirmed", if *confirmed { "" } else { "not " }));
            }
        }
        for saga in sagas.keys().filter(|saga| !orders.contains_key(*saga)) {
            wrong.push(format!("{saga} has no order"));
        }
    }

    /// Held for completed orders, with their lines, and for nobody else; initial = available + held.
    async fn check_stock(&self, completed: &BTreeSet<String>, wrong: &mut Vec<String>) {
        let held = "select order_id, count(*) from reservation where released_at is null group by order_id";
        let held: Vec<(String, i64)> = rows(&self.inventory, held).await;
        exactly_once("reservation", &held, completed, wrong);
        let sums = "select s.sku, s.initial - s.available, cast(coalesce(sum(l.quantity), 0) as bigint) from stock s
            left join (select l.sku, l.quantity from reservation_line l join reservation r using (effect) where r.released_at is null) l
            on l.sku = s.sku group by s.sku, s.initial, s.available";
        let sums: Vec<(String, i64, i64)> = rows(&self.inventory, sums).await;
        for (sku, gone, held) in sums {
            if gone != held {
                wrong.push(format!("{gone} of {sku} are gone, but {held} are held"));
            }
        }
    }

    /// Captured at the provider for completed orders, voided for all others, each once; the postings add up to nothing.
    async fn check_money(&self, completed: &BTreeSet<String>, wrong: &mut Vec<String>) {
        let all = r#"select id, order_id, state from "authorization""#;
        let authorizations: Vec<(String, String, String)> = rows(&self.provider, all).await;
        let mut captured = BTreeMap::<String, i64>::new();
        for (_, order, state) in &authorizations {
            match state.as_str() {
                "captured" => *captured.entry(order.clone()).or_default() += 1,
                "voided" => {}
                state => wrong.push(format!("money of {order} is still {state}")),
            }
        }
        let captured: Vec<_> = captured.into_iter().collect();
        exactly_once("captured authorization", &captured, completed, wrong);
        let sums = "select cast(coalesce(sum(amount), 0) as bigint),
            cast(coalesce(sum(amount) filter (where account = 'held'), 0) as bigint) from posting";
        let sums: Vec<(i64, i64)> = rows(&self.provider, sums).await;
        for (all, held) in sums.into_iter().filter(|sums| *sums != (0, 0)) {
            wrong.push(format!(
                "the provider's postings add up to {all}, and {held} is held for nobody"
            ));
        }
        let real: BTreeMap<String, String> = authorizations.into_iter().map(|(id, _, state)| (id, state)).collect();
        let believed: Vec<(String, String)> = rows(&self.payment, "select authorization_id, state from payment").await;
        for (id, state) in believed {
            if real.get(&id) != Some(&state) {
                let real = real.get(&id);
                wrong.push(format!(
                    "payment believes {id} to be {state}, the provider has {real:?}"
                ));
            }
        }
    }

    async fn check_shipments(&self, completed: &BTreeSet<String>, wrong: &mut Vec<String>) {
        let booked = "select order_id, count(*) from shipment where state <> 'cancelled' group by order_id";
        let booked: Vec<(String, i64)> = rows(&self.shipping, booked).await;
        exactly_once("shipment", &booked, completed, wrong);
    }
}

fn exactly_once(what: &str, found: &[(String, i64)], wanted: &BTreeSet<String>, wrong: &mut Vec<String>) {
    let found: BTreeMap<&str, i64> = found.iter().map(|(order, n)| (order.as_str(), *n)).collect();
    for (order, n) in found.iter().filter(|(order, n)| !wanted.contains(**order) || **n != 1) {
        let is = if wanted.contains(*order) { "" } else { "not " };
        wrong.push(format!("{order} has {n} of {what}, and is {is}completed"));
    }
    for order in wanted.iter().filter(|order| !found.contains_key(order.as_str())) {
        wrong.push(format!("{order} is completed without {what}"));
    }
}

async fn rows<T: Row>(location: &Location, query: &'static str) -> Vec<T> {
    on_database!(location, D => rows_on::<D, T>(location, query).await)
}

async fn rows_on<D: Db, T: Row>(location: &Location, query: &'static str) -> Vec<T> {
    let pool = D::connect(location).await.expect("the database opens");
    let mut connection = pool.acquire().await.expect("the database opens");
    let rows = D::sql(&mut connection)
        .rows(query, &[])
        .await
        .expect("the books can be read");
    drop(connection);
    pool.close().await;
    rows
}

/// For tests that are threads.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
});

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}
pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    RUNTIME.spawn(future)
}

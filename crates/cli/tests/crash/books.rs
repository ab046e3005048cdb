//! The books of a stopped shop: its databases, opened from outside, held against what the sagas say.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use sagamill::{
    eventstore::EventStore,
    saga::core::{SagaEvent, Summary, SummaryState},
};
use sqlx::{Row, SqlitePool, sqlite::SqliteConnectOptions};

/// The sagas that have not ended.
pub(crate) fn in_flight(data: &Path) -> BTreeSet<String> {
    let running = |summary: &Summary| !matches!(summary.state, SummaryState::Completed | SummaryState::Compensated);
    block_on(async {
        sagas(data)
            .await
            .into_iter()
            .filter(|(_, s)| running(s))
            .map(|(saga, _)| saga)
            .collect()
    })
}

/// Holds all effects against the ends of their sagas; answers how many sagas there are.
pub(crate) fn check(data: &Path) -> usize {
    block_on(async {
        let sagas = sagas(data).await;
        let mut wrong = Vec::new();
        let mut completed = BTreeSet::new();
        for (order, summary) in &sagas {
            match summary.state {
                SummaryState::Completed => drop(completed.insert(order.clone())),
                SummaryState::Compensated => {}
                _ => wrong.push(format!("{order} is {:?}: {:?}", summary.state, summary.reason)),
            }
        }
        check_orders(data, &sagas, &completed, &mut wrong).await;
        check_stock(data, &completed, &mut wrong).await;
        check_money(data, &completed, &mut wrong).await;
        check_shipments(data, &completed, &mut wrong).await;
        assert!(
            wrong.is_empty(),
            "{} wrong in {}:\n{}",
            wrong.len(),
            data.display(),
            wrong.join("\n")
        );
        sagas.len()
    })
}

async fn sagas(data: &Path) -> BTreeMap<String, Summary> {
    let file = data.join("order.db");
    let mut sagas = BTreeMap::new();
    if !file.exists() {
        return sagas;
    }
    let store = EventStore::connect(&format!("sqlite:{}", file.display()))
        .await
        .expect("the log opens");
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
    data: &Path,
    sagas: &BTreeMap<String, Summary>,
    completed: &BTreeSet<String>,
    wrong: &mut Vec<String>,
) {
    let rows = rows(
        data,
        "order.db",
        "select 'order-' || number, confirmed_at is not null from orders",
    )
    .await;
    let orders: BTreeMap<String, bool> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
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
async fn check_stock(data: &Path, completed: &BTreeSet<String>, wrong: &mut Vec<String>) {
    let all = rows(
        data,
        "inventory.db",
        "select order_id, released_at is null from reservation",
    )
    .await;
    let mut held = BTreeMap::<String, u32>::new();
    for row in &all {
        if row.get::<bool, _>(1) {
            *held.entry(row.get(0)).or_default() += 1;
        }
    }
    exactly_once("reservation", &held, completed, wrong);
    let sums = "select s.sku, s.initial - s.available, coalesce(sum(l.quantity), 0) from stock s
        left join (select l.sku, l.quantity from reservation_line l join reservation r using (effect) where r.released_at is null) l
        on l.sku = s.sku group by s.sku";
    for row in rows(data, "inventory.db", sums).await {
        let (sku, gone, held): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        if gone != held {
            wrong.push(format!("{gone} of {sku} are gone, but {held} are held"));
        }
    }
}

/// Captured at the provider for completed orders, voided for all others, each once; the postings add up to nothing.
async fn check_money(data: &Path, completed: &BTreeSet<String>, wrong: &mut Vec<String>) {
    let mut captured = BTreeMap::<String, u32>::new();
    for row in rows(data, "provider.db", "select order_id, state from \"authorization\"").await {
        match row.get::<&str, _>(1) {
            "captured" => *captured.entry(row.get(0)).or_default() += 1,
            "voided" => {}
            state => wrong.push(format!("money of {} is still {state}", row.get::<String, _>(0))),
        }
    }
    exactly_once("captured authorization", &captured, completed, wrong);
    let sums = "select coalesce(sum(amount), 0), coalesce(sum(amount) filter (where account = 'held'), 0) from posting";
    for row in rows(data, "provider.db", sums).await {
        let (all, held): (i64, i64) = (row.get(0), row.get(1));
        if all != 0 || held != 0 {
            wrong.push(format!(
                "the provider's postings add up to {all}, and {held} is held for nobody"
            ));
        }
    }
    let notes = rows(data, "payment.db", "select authorization_id, state from payment").await;
    let real: BTreeMap<String, String> = rows(data, "provider.db", "select id, state from \"authorization\"")
        .await
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    for row in notes {
        let (id, state): (String, String) = (row.get(0), row.get(1));
        if real.get(&id) != Some(&state) {
            wrong.push(format!(
                "payment believes {id} to be {state}, the provider has {:?}",
                real.get(&id)
            ));
        }
    }
}

async fn check_shipments(data: &Path, completed: &BTreeSet<String>, wrong: &mut Vec<String>) {
    let mut booked = BTreeMap::<String, u32>::new();
    for row in rows(data, "shipping.db", "select order_id, state from shipment").await {
        if row.get::<&str, _>(1) != "cancelled" {
            *booked.entry(row.get(0)).or_default() += 1;
        }
    }
    exactly_once("shipment", &booked, completed, wrong);
}

fn exactly_once(what: &str, found: &BTreeMap<String, u32>, wanted: &BTreeSet<String>, wrong: &mut Vec<String>) {
    for (order, n) in found.iter().filter(|(order, n)| !wanted.contains(*order) || **n != 1) {
        wrong.push(format!(
            "{order} has {n} of {what}, and is {}completed",
            if wanted.contains(order) { "" } else { "not " }
        ));
    }
    for order in wanted.iter().filter(|order| !found.contains_key(*order)) {
        wrong.push(format!("{order} is completed without {what}"));
    }
}

async fn rows(data: &Path, file: &str, query: &'static str) -> Vec<sqlx::sqlite::SqliteRow> {
    let options = SqliteConnectOptions::new().filename(data.join(file)).read_only(true);
    let pool = SqlitePool::connect_with(options).await.expect("the database opens");
    let rows = sqlx::query(query)
        .fetch_all(&pool)
        .await
        .expect("the books can be read");
    pool.close().await;
    rows
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

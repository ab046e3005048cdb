//! Whether money and stock are conserved, at every moment.
//!
//! First the order service says which sagas have ended; only then the others are asked. What a saga that has ended did can
//! no longer change, so each of the later answers must agree with it. What running or parked sagas hold is shown, and not
//! judged.

mod book;
mod judge;

use serde::Serialize;
use shop_contracts::{BooksError, Money, OrderId};
use shop_frame::Db;
use sqlx::Pool;

use crate::Books;

/// Most discrepancies that are shown; all are counted.
const SHOWN_MAX: usize = 100;

/// What `GET /ledger` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Whether everything that can be judged is as it must be.
    pub balanced: bool,
    /// Orders whose sagas run.
    pub in_flight: u64,
    /// Orders by how they ended.
    pub orders: OrderCounts,
    /// In minor units.
    pub money: MoneyLedger,
    /// In pieces, over all articles.
    pub stock: StockLedger,
    /// How many discrepancies there are.
    pub discrepancy_count: usize,
    /// The first of them.
    pub discrepancies: Vec<Discrepancy>,
}

/// Orders by how they ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OrderCounts {
    /// Fulfilled.
    pub completed: u64,
    /// Undone.
    pub compensated: u64,
    /// Waiting for an operator; what they hold is not judged.
    pub parked: u64,
}

/// Where the money is. What customers have lost is held or the merchant's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MoneyLedger {
    /// All customers together; zero or negative.
    pub customers: Money,
    /// Held by the provider.
    pub held: Money,
    /// The merchant's.
    pub merchant: Money,
    /// What completed orders cost.
    pub completed: Money,
    /// Held or captured for sagas that have not ended.
    pub in_flight: Money,
}

/// Where the stock is. What there was at first is available or held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StockLedger {
    /// When the shop opened.
    pub initial: i64,
    /// Can be reserved.
    pub available: i64,
    /// Set aside or sold.
    pub held: i64,
    /// In completed orders.
    pub completed: i64,
    /// Held for sagas that have not ended.
    pub in_flight: i64,
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Discrepancy {
    /// Of which order; none where a service does not agree with itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderId>,
    /// What it is.
    pub what: String,
}

/// Why there is no ledger now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The order service's own database failed.
    #[error("the order database failed")]
    Database(#[from] sqlx::Error),
    /// Another service does not answer.
    #[error(transparent)]
    Books(#[from] BooksError),
}

/// Asks all, in the order that makes the answer true. Orders that came meanwhile are looked for at the end: their numbers say
/// nothing of when they were committed.
pub(crate) async fn ledger<D: Db>(pool: &Pool<D>, books: &Books) -> Result<Ledger, LedgerError> {
    let mut orders = book::read(pool).await?;
    let (stock, payments, shipments) =
        tokio::try_join!(books.inventory.read(), books.payment.read(), books.shipping.read())?;
    let strangers = judge::strangers(&orders, &stock, &payments, &shipments);
    orders.later = book::placed(pool, strangers).await?;
    Ok(judge::judge(&orders, &stock, &payments, &shipments))
}

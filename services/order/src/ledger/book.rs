//! What the order service says of its orders, at one moment.

use std::collections::{BTreeMap, BTreeSet};

use shop_contracts::{Line, Money, OrderId};
use sqlx::{SqliteConnection, SqlitePool};

use crate::desk::{OrderStatus, line};

/// The orders at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct OrderBook {
    /// The highest number given so far.
    pub(super) last: i64,
    /// Orders whose sagas have ended.
    pub(super) ended: BTreeMap<OrderId, Ended>,
    /// Orders whose sagas run.
    pub(super) pending: BTreeSet<OrderId>,
    /// Orders whose sagas wait for an operator.
    pub(super) parked: BTreeSet<OrderId>,
}

/// An order whose saga has ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) completed: bool,
    pub(super) lines: Vec<Line>,
    pub(super) total: Money,
}

pub(super) async fn read(pool: &SqlitePool) -> Result<OrderBook, sqlx::Error> {
    // One read transaction is one snapshot.
    let mut tx = pool.begin().await?;
    let rows: Vec<(i64, String, i64)> = sqlx::query_as("select number, status, total from orders order by number")
        .fetch_all(&mut *tx)
        .await?;
    let mut lines = lines(&mut tx).await?;
    let mut book = OrderBook::default();
    for (number, status, total) in rows {
        let (id, total) = (OrderId::numbered(number), Money::minor(total));
        let mut ended = |completed| Ended {
            completed,
            lines: lines.remove(&number).unwrap_or_default(),
            total,
        };
        book.last = number;
        match OrderStatus::parse(&status)? {
            OrderStatus::Pending => drop(book.pending.insert(id)),
            OrderStatus::Parked => drop(book.parked.insert(id)),
            OrderStatus::Completed => drop(book.ended.insert(id, ended(true))),
            OrderStatus::Compensated => drop(book.ended.insert(id, ended(false))),
        }
    }
    Ok(book)
}

async fn lines(connection: &mut SqliteConnection) -> Result<BTreeMap<i64, Vec<Line>>, sqlx::Error> {
    let rows: Vec<(i64, String, u32)> =
        sqlx::query_as("select number, sku, quantity from order_line order by number, sku")
            .fetch_all(connection)
            .await?;
    let mut lines: BTreeMap<i64, Vec<Line>> = BTreeMap::new();
    for (number, sku, quantity) in rows {
        lines.entry(number).or_default().push(line(sku, quantity)?);
    }
    Ok(lines)
}

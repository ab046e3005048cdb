//! What the order service says of its orders, at one moment.

use std::collections::{BTreeMap, BTreeSet};

use shop_contracts::{Line, Money, OrderId};
use shop_frame::{Db, Sql, snapshot, values};
use sqlx::Pool;

use crate::desk::{OrderStatus, line};

/// The orders at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct OrderBook {
    /// Orders whose sagas have ended.
    pub(super) ended: BTreeMap<OrderId, Ended>,
    /// Orders whose sagas run.
    pub(super) pending: BTreeSet<OrderId>,
    /// Orders whose sagas wait for an operator.
    pub(super) parked: BTreeSet<OrderId>,
    /// Orders that were not there at that moment, and came later.
    pub(super) later: BTreeSet<OrderId>,
}

/// An order whose saga has ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) completed: bool,
    pub(super) lines: Vec<Line>,
    pub(super) total: Money,
}

pub(super) async fn read<D: Db>(pool: &Pool<D>) -> Result<OrderBook, sqlx::Error> {
    let mut tx = snapshot(pool).await?;
    let mut sql = D::sql(&mut tx);
    let orders = "select number, status, total from orders order by number";
    let rows: Vec<(i64, String, i64)> = sql.rows(orders, &[]).await?;
    let mut lines = lines(&mut sql).await?;
    let mut book = OrderBook::default();
    for (number, status, total) in rows {
        let (id, total) = (OrderId::numbered(number), Money::minor(total));
        let mut ended = |completed| Ended {
            completed,
            lines: lines.remove(&number).unwrap_or_default(),
            total,
        };
        match OrderStatus::parse(&status)? {
            OrderStatus::Pending => drop(book.pending.insert(id)),
            OrderStatus::Parked => drop(book.parked.insert(id)),
            OrderStatus::Completed => drop(book.ended.insert(id, ended(true))),
            OrderStatus::Compensated => drop(book.ended.insert(id, ended(false))),
        }
    }
    Ok(book)
}

async fn lines(sql: &mut Sql<'_>) -> Result<BTreeMap<i64, Vec<Line>>, sqlx::Error> {
    let all = "select number, sku, quantity from order_line order by number, sku";
    let rows: Vec<(i64, String, i64)> = sql.rows(all, &[]).await?;
    let mut lines: BTreeMap<i64, Vec<Line>> = BTreeMap::new();
    for (number, sku, quantity) in rows {
        lines.entry(number).or_default().push(line(sku, quantity)?);
    }
    Ok(lines)
}

/// Those of the orders that exist by now.
pub(super) async fn placed<D: Db>(pool: &Pool<D>, orders: Vec<OrderId>) -> Result<BTreeSet<OrderId>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let mut sql = D::sql(&mut connection);
    let mut placed = BTreeSet::new();
    for order in orders {
        let Some(number) = order.number() else { continue };
        let exists = "select exists (select 1 from orders where number = $1)";
        if sql.value(exists, &values![number]).await? {
            placed.insert(order);
        }
    }
    Ok(placed)
}

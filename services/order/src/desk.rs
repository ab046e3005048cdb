//! The order service's own tables.

use jiff::Timestamp;
use sagamill::eventstore::{EventStore, NewEvent, Position, Transaction};
use sagamill::prelude::Sagas;
use serde::Serialize;
use shop_contracts::{Line, Money, OrderId, OrderPlaced, Quantity, Sku};
use shop_frame::{Db, Script, Sql, script, values};
use sqlx::Pool;

use crate::{Error, basket::Basket, place_order::Fulfilment};

pub(crate) const TABLES: Script = script!("001-order.sql");

/// Where an order is, as its saga says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// Its saga runs.
    Pending,
    /// It is paid and on its way.
    Completed,
    /// It has been undone.
    Compensated,
    /// Its saga waits for an operator.
    Parked,
}

impl OrderStatus {
    const ALL: [Self; 4] = [Self::Pending, Self::Completed, Self::Compensated, Self::Parked];

    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Parked => "parked",
        }
    }
    pub(crate) fn parse(text: &str) -> Result<Self, sqlx::Error> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| sqlx::Error::Decode(text.into()))
    }
}

/// An order as it was placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// Its id.
    pub id: OrderId,
    /// Who ordered.
    pub customer: String,
    /// What.
    pub items: Vec<Line>,
    /// What it costs.
    pub total: Money,
    /// When.
    pub placed_at: String,
}

/// An order in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrderRow {
    /// Its id.
    pub id: OrderId,
    /// Where it is.
    pub status: OrderStatus,
    /// Who ordered.
    pub customer: String,
    /// What it costs.
    pub total: Money,
    /// When it was placed.
    pub placed_at: String,
    /// When its status last changed.
    pub updated_at: String,
}

/// Accepts an order: the order, the fact and the start of its saga exist together or not at all. The same request under the
/// same key is the same order.
///
/// # Errors
/// [`Error::KeyReused`] where the key came with another request.
pub(crate) async fn place<D: Db>(
    store: &EventStore<D>,
    sagas: &Sagas<Fulfilment, D>,
    key: Option<&str>,
    basket: &Basket,
) -> Result<Placed, Error> {
    let request = serde_json::json!([basket.customer, basket.lines]).to_string();
    loop {
        let mut tx = store.begin().await?;
        if let Some(key) = key
            && let Some((first, number)) = earlier(&mut D::sql(&mut tx), key).await?
        {
            let placed = find(&mut D::sql(&mut tx), number).await?;
            tx.rollback().await?;
            let same = placed.filter(|_| first == request);
            return same
                .map(|(placed, _)| placed)
                .ok_or_else(|| Error::KeyReused { key: key.to_owned() });
        }
        let placed = insert(&mut D::sql(&mut tx), basket).await?;
        if let Some(key) = key
            && !remember(&mut D::sql(&mut tx), key, &request, &placed.id).await?
        {
            // Another request under this key was faster, by this moment.
            tx.rollback().await?;
            continue;
        }
        start(store, sagas, &mut tx, &placed, basket).await?;
        fail::fail_point!("order.place.before");
        tx.commit().await?;
        fail::fail_point!("order.place.after");
        return Ok(placed);
    }
}

async fn start<D: Db>(
    store: &EventStore<D>,
    sagas: &Sagas<Fulfilment, D>,
    tx: &mut Transaction<D>,
    placed: &Placed,
    basket: &Basket,
) -> Result<(), Error> {
    let Placed {
        id,
        customer,
        items,
        total,
        ..
    } = placed.clone();
    let fact = OrderPlaced {
        order: id.clone(),
        customer: customer.clone(),
        lines: items.clone(),
        total,
    };
    store.stage_in(tx, id.as_str(), [NewEvent::of(&fact)?]).await?;
    let input = Fulfilment {
        order: id.clone(),
        customer,
        lines: items,
        delivery: basket.delivery,
        total,
        reservation: None,
        authorization: None,
        shipment: None,
    };
    sagas.start_in(tx, id.as_str(), input).await?;
    Ok(())
}

async fn earlier(sql: &mut Sql<'_>, key: &str) -> Result<Option<(String, i64)>, sqlx::Error> {
    let earlier = "select request, number from idempotency where idempotency_key = $1";
    sql.row(earlier, &values![key]).await
}

/// False: the key has come with another order meanwhile.
async fn remember(sql: &mut Sql<'_>, key: &str, request: &str, order: &OrderId) -> Result<bool, sqlx::Error> {
    let remember =
        "insert into idempotency (idempotency_key, request, number) values ($1, $2, $3) on conflict do nothing";
    let number = order.number().unwrap_or_default();
    Ok(sql.execute(remember, &values![key, request, number]).await? == 1)
}

async fn insert(sql: &mut Sql<'_>, basket: &Basket) -> Result<Placed, sqlx::Error> {
    let placed_at = Timestamp::now().to_string();
    let order = "insert into orders (customer, total, placed_at, updated_at) values ($1, $2, $3, $3) returning number";
    let number: i64 = sql
        .value(order, &values![&basket.customer, basket.total.as_minor(), &placed_at])
        .await?;
    for line in &basket.lines {
        let one = "insert into order_line (number, sku, quantity) values ($1, $2, $3)";
        sql.execute(one, &values![number, line.sku.as_str(), line.quantity.get()])
            .await?;
    }
    let Basket {
        customer, lines, total, ..
    } = basket.clone();
    Ok(Placed {
        id: OrderId::numbered(number),
        customer,
        items: lines,
        total,
        placed_at,
    })
}

/// One order, and where it is.
pub(crate) async fn find(sql: &mut Sql<'_>, number: i64) -> Result<Option<(Placed, OrderRow)>, sqlx::Error> {
    let one = "select number, customer, total, status, placed_at, updated_at from orders where number = $1";
    let Some(row) = sql.row(one, &values![number]).await? else {
        return Ok(None);
    };
    let row = order_row(row)?;
    let lines = "select sku, quantity from order_line where number = $1 order by sku";
    let lines: Vec<(String, i64)> = sql.rows(lines, &values![number]).await?;
    let items = lines
        .into_iter()
        .map(|(sku, quantity)| line(sku, quantity))
        .collect::<Result<_, _>>()?;
    let OrderRow {
        id,
        customer,
        total,
        placed_at,
        ..
    } = row.clone();
    Ok(Some((
        Placed {
            id,
            customer,
            items,
            total,
            placed_at,
        },
        row,
    )))
}

/// A stored line.
pub(crate) fn line(sku: String, quantity: i64) -> Result<Line, sqlx::Error> {
    let quantity = Quantity::stored(quantity).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(Line {
        sku: Sku::from(sku),
        quantity,
    })
}

fn order_row(row: (i64, String, i64, String, String, String)) -> Result<OrderRow, sqlx::Error> {
    let (number, customer, total, status, placed_at, updated_at) = row;
    let status = OrderStatus::parse(&status)?;
    let (id, total) = (OrderId::numbered(number), Money::minor(total));
    Ok(OrderRow {
        id,
        status,
        customer,
        total,
        placed_at,
        updated_at,
    })
}

/// The newest orders before a number, at most so many.
pub(crate) async fn list<D: Db>(
    pool: &Pool<D>,
    before: i64,
    status: Option<OrderStatus>,
    limit: u32,
) -> Result<Vec<OrderRow>, sqlx::Error> {
    let newest = "select number, customer, total, status, placed_at, updated_at from orders
         where number < $1 and status = coalesce($2, status) order by number desc limit $3";
    let status = status.map(OrderStatus::as_str);
    let mut connection = pool.acquire().await?;
    let rows = D::sql(&mut connection)
        .rows(newest, &values![before, status, limit])
        .await?;
    rows.into_iter().map(order_row).collect()
}

/// How many orders' sagas run.
pub(crate) async fn in_flight<D: Db>(pool: &Pool<D>) -> Result<u64, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let running = "select count(*) from orders where status = 'pending'";
    let running: i64 = D::sql(&mut connection).value(running, &[]).await?;
    Ok(running.unsigned_abs())
}

/// The last of the sagas' events that the orders' status knows.
pub(crate) async fn last_status<D: Db>(pool: &Pool<D>) -> Result<Position, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let last = "select coalesce(max(status_position), 0) from orders";
    D::sql(&mut connection).value(last, &[]).await.map(Position)
}

/// Writes down what a saga's event says of its order. Each event counts once, and an older one never after a newer one.
pub(crate) async fn note_status<D: Db>(
    store: &EventStore<D>,
    number: i64,
    status: OrderStatus,
    position: Position,
    at: Timestamp,
) -> Result<(), Error> {
    let mut tx = store.begin().await?;
    let note = "update orders set status = $1, status_position = $2, updated_at = $3
         where number = $4 and status_position < $2";
    let values = values![status.as_str(), position.0, at.to_string(), number];
    D::sql(&mut tx).execute(note, &values).await?;
    Ok(tx.commit().await?)
}

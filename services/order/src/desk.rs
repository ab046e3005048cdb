//! The order service's own tables.

use jiff::Timestamp;
use sagamill::eventstore::{EventStore, NewEvent, Position};
use sagamill::prelude::Sagas;
use serde::Serialize;
use shop_contracts::{Line, Money, OrderId, OrderPlaced, Quantity, Sku};
use sqlx::{Sqlite, SqliteConnection, SqlitePool};

use crate::{Error, basket::Basket, place_order::Fulfilment};

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

pub(crate) async fn migrate(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(include_str!("migrations/001-order.sql"))
        .execute(pool)
        .await
        .map(drop)
}

/// Accepts an order: the order, the fact and the start of its saga exist together or not at all. The same request under the
/// same key is the same order.
///
/// # Errors
/// [`Error::KeyReused`] where the key came with another request.
pub(crate) async fn place(
    store: &EventStore<Sqlite>,
    sagas: &Sagas<Fulfilment, Sqlite>,
    key: Option<&str>,
    basket: Basket,
) -> Result<Placed, Error> {
    let request = serde_json::json!([basket.customer, basket.lines]).to_string();
    let mut tx = store.begin().await?;
    if let Some(key) = key
        && let Some((first, number)) = earlier(&mut tx, key).await?
    {
        let placed = find(&mut tx, number).await?;
        tx.rollback().await?;
        let same = placed.filter(|_| first == request);
        return same
            .map(|(placed, _)| placed)
            .ok_or_else(|| Error::KeyReused { key: key.to_owned() });
    }
    let placed = insert(&mut tx, &basket).await?;
    if let Some(key) = key {
        remember(&mut tx, key, &request, &placed.id).await?;
    }
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
    store.stage_in(&mut tx, id.as_str(), [NewEvent::of(&fact)?]).await?;
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
    sagas.start_in(&mut tx, id.as_str(), input).await?;
    fail::fail_point!("order.place.before");
    tx.commit().await?;
    fail::fail_point!("order.place.after");
    Ok(placed)
}

async fn earlier(connection: &mut SqliteConnection, key: &str) -> Result<Option<(String, i64)>, sqlx::Error> {
    sqlx::query_as("select request, number from idempotency where idempotency_key = $1")
        .bind(key)
        .fetch_optional(connection)
        .await
}

async fn remember(
    connection: &mut SqliteConnection,
    key: &str,
    request: &str,
    order: &OrderId,
) -> Result<(), sqlx::Error> {
    sqlx::query("insert into idempotency (idempotency_key, request, number) values ($1, $2, $3)")
        .bind(key)
        .bind(request)
        .bind(order.number())
        .execute(connection)
        .await
        .map(drop)
}

async fn insert(connection: &mut SqliteConnection, basket: &Basket) -> Result<Placed, sqlx::Error> {
    let placed_at = Timestamp::now().to_string();
    let number: i64 = sqlx::query_scalar(
        "insert into orders (customer, total, placed_at, updated_at) values ($1, $2, $3, $3) returning number",
    )
    .bind(&basket.customer)
    .bind(basket.total.as_minor())
    .bind(&placed_at)
    .fetch_one(&mut *connection)
    .await?;
    for line in &basket.lines {
        sqlx::query("insert into order_line (number, sku, quantity) values ($1, $2, $3)")
            .bind(number)
            .bind(line.sku.as_str())
            .bind(i64::from(line.quantity.get()))
            .execute(&mut *connection)
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
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    number: i64,
) -> Result<Option<(Placed, OrderRow)>, sqlx::Error> {
    let row =
        sqlx::query_as("select number, customer, total, status, placed_at, updated_at from orders where number = $1");
    let Some(row) = row.bind(number).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let row = order_row(row)?;
    let lines = sqlx::query_as("select sku, quantity from order_line where number = $1 order by sku");
    let lines: Vec<(String, u32)> = lines.bind(number).fetch_all(connection).await?;
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
pub(crate) fn line(sku: String, quantity: u32) -> Result<Line, sqlx::Error> {
    let quantity = Quantity::try_from(quantity).map_err(|error| sqlx::Error::Decode(error.into()))?;
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
pub(crate) async fn list(
    pool: &SqlitePool,
    before: i64,
    status: Option<OrderStatus>,
    limit: u32,
) -> Result<Vec<OrderRow>, sqlx::Error> {
    let rows = sqlx::query_as(
        "select number, customer, total, status, placed_at, updated_at from orders
         where number < $1 and status = coalesce($2, status) order by number desc limit $3",
    )
    .bind(before)
    .bind(status.map(OrderStatus::as_str))
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(order_row).collect()
}

/// How many orders' sagas run.
pub(crate) async fn in_flight(pool: &SqlitePool) -> Result<u64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from orders where status = 'pending'")
        .fetch_one(pool)
        .await
}

/// The last of the sagas' events that the orders' status knows.
pub(crate) async fn last_status(pool: &SqlitePool) -> Result<Position, sqlx::Error> {
    let last = "select coalesce(max(status_position), 0) from orders";
    sqlx::query_scalar(last).fetch_one(pool).await.map(Position)
}

/// Writes down what a saga's event says of its order. Each event counts once, and an older one never after a newer one.
pub(crate) async fn note_status(
    store: &EventStore<Sqlite>,
    number: i64,
    status: OrderStatus,
    position: Position,
    at: Timestamp,
) -> Result<(), Error> {
    let mut tx = store.begin().await?;
    sqlx::query(
        "update orders set status = $1, status_position = $2, updated_at = $3
         where number = $4 and status_position < $2",
    )
    .bind(status.as_str())
    .bind(position.0)
    .bind(at.to_string())
    .bind(number)
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

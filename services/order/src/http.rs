//! The edge: orders over HTTP. Every refusal is a problem, and starts nothing.

use std::fmt::Write;

use axum::{
    Json, Router,
    extract::{
        FromRef, Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use sagamill_service_kit::{ApiJson, Intake, Problem};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shop_contracts::{Money, OrderId, Sku, article};
use shop_frame::Db;

use crate::{
    Error, OrderRow, Orders, Placed,
    basket::{BasketError, OrderRequest},
    desk::OrderStatus,
    ledger::{Ledger, LedgerError},
    progress::StepView,
};

/// Orders in one answer, where nothing is said.
const PAGE: u32 = 100;
/// And at most.
const PAGE_MAX: u32 = 500;
/// The longest idempotency key.
const KEY_MAX: usize = 255;

struct Front<D: Db> {
    orders: Orders<D>,
    intake: Intake,
}

impl<D: Db> Clone for Front<D> {
    fn clone(&self) -> Self {
        let (orders, intake) = (self.orders.clone(), self.intake.clone());
        Self { orders, intake }
    }
}
impl<D: Db> FromRef<Front<D>> for Orders<D> {
    fn from_ref(front: &Front<D>) -> Self {
        front.orders.clone()
    }
}
impl<D: Db> FromRef<Front<D>> for Intake {
    fn from_ref(front: &Front<D>) -> Self {
        front.intake.clone()
    }
}

pub(crate) fn routes<D: Db>(orders: Orders<D>, intake: Intake) -> Router {
    Router::new()
        .route("/catalog", get(catalog::<D>))
        .route("/orders", get(list::<D>).post(place::<D>))
        .route("/orders/{id}", get(show::<D>))
        .route("/ledger", get(ledger::<D>))
        .with_state(Front { orders, intake })
}

#[derive(Debug, Serialize)]
struct CatalogItem {
    sku: Sku,
    price: Money,
    available: i64,
}

async fn catalog<D: Db>(State(orders): State<Orders<D>>) -> Result<Json<Vec<CatalogItem>>, Problem> {
    let stock = orders
        .books()
        .stock
        .read()
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    let item = |level: shop_contracts::StockLevel| {
        let price = article(level.sku.as_str())?.price;
        Some(CatalogItem {
            sku: level.sku,
            price,
            available: level.available,
        })
    };
    Ok(Json(stock.into_iter().filter_map(item).collect()))
}

async fn place<D: Db>(
    State(orders): State<Orders<D>>,
    headers: HeaderMap,
    ApiJson(request): ApiJson<OrderRequest>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let basket = request.try_into().map_err(|error| refusal(&error))?;
    let Placed {
        id,
        customer,
        items,
        total,
        placed_at,
    } = orders.place(key, basket).await?;
    let location = format!("/orders/{id}");
    let answer = json!({
        "id": id, "status": "pending", "customer": customer, "items": items, "total": total, "placed_at": placed_at,
    });
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(answer)).into_response())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    match key.to_str() {
        Ok(text) if (1..=KEY_MAX).contains(&text.len()) && keys.next().is_none() => Ok(Some(text)),
        _ => Err(
            Problem::named(StatusCode::BAD_REQUEST, "idempotency-key", "Invalid idempotency key").detail(format!(
                "one Idempotency-Key of 1 to {KEY_MAX} visible ASCII characters"
            )),
        ),
    }
}

fn refusal(error: &BasketError) -> Problem {
    let (name, title) = match error {
        BasketError::Customer => ("invalid-customer", "Invalid customer"),
        BasketError::NoItems => ("no-items", "No items"),
        BasketError::TooManyItems(_) => ("too-many-items", "Too many items"),
        BasketError::UnknownSku(_) => ("unknown-sku", "Unknown SKU"),
        BasketError::Quantity { .. } => ("invalid-quantity", "Invalid quantity"),
        BasketError::TotalTooLarge => ("total-too-large", "Total too large"),
    };
    Problem::named(StatusCode::UNPROCESSABLE_ENTITY, name, title).detail(error.to_string())
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match &error {
            Error::KeyReused { key } => Self::named(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "Idempotency key reused",
            )
            .detail("this key came with another order before")
            .with("key", key.as_str()),
            Error::Busy => Self::of(StatusCode::SERVICE_UNAVAILABLE).detail(error.to_string()),
            Error::Log(source) if source.is_retryable() => Self::unavailable(&error)
                .detail("it is not certain whether the order was taken; ask again under the same Idempotency-Key"),
            _ => Self::internal(&error),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<u32>,
    before: Option<OrderId>,
    status: Option<OrderStatus>,
}

async fn list<D: Db>(
    State(orders): State<Orders<D>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    let invalid =
        |detail: String| Problem::named(StatusCode::BAD_REQUEST, "invalid-query", "Invalid query").detail(detail);
    let Query(page) = page.map_err(|rejection| invalid(rejection.body_text()))?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(invalid(format!("limit is 1 to {PAGE_MAX}, not {limit}")));
    }
    let before = match &page.before {
        None => i64::MAX,
        Some(id) => id.number().ok_or_else(|| invalid(format!("`{id}` is no order's id")))?,
    };
    let rows = orders.list(before, page.status, limit).await?;
    let mut response = Json(&rows).into_response();
    if let Some(next) = next_page(&rows, limit, page.status) {
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}

fn next_page(rows: &[OrderRow], limit: u32, status: Option<OrderStatus>) -> Option<HeaderValue> {
    let last = rows.last().filter(|_| rows.len() == limit as usize)?;
    let mut link = format!("</orders?limit={limit}&before={}", last.id);
    if let Some(status) = status {
        write!(link, "&status={}", status.as_str()).ok()?;
    }
    HeaderValue::try_from(link + ">; rel=\"next\"").ok()
}

#[derive(Debug, Serialize)]
struct OrderView {
    #[serde(flatten)]
    placed: Placed,
    status: OrderStatus,
    updated_at: String,
    saga: SagaView,
}

#[derive(Debug, Serialize)]
struct SagaView {
    definition: &'static str,
    steps: Vec<StepView>,
}

async fn show<D: Db>(
    State(orders): State<Orders<D>>,
    id: Result<Path<OrderId>, PathRejection>,
) -> Result<Json<OrderView>, Problem> {
    let missing = || Problem::named(StatusCode::NOT_FOUND, "no-such-order", "No such order");
    let Path(id) = id.map_err(|_| missing())?;
    let (placed, row) = orders.find(&id).await?.ok_or_else(missing)?;
    let steps = orders.steps(&id).await?;
    let saga = SagaView {
        definition: crate::PLACE_ORDER,
        steps,
    };
    Ok(Json(OrderView {
        placed,
        status: row.status,
        updated_at: row.updated_at,
        saga,
    }))
}

async fn ledger<D: Db>(State(orders): State<Orders<D>>) -> Result<Json<Ledger>, Problem> {
    orders.ledger().await.map(Json).map_err(|error| match &error {
        LedgerError::Books(_) => Problem::unavailable(&error),
        LedgerError::Database(_) => Problem::internal(&error),
    })
}

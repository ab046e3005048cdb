//! The saga that fulfils an order: its input, its definition, its rules.

use jiff::Timestamp;
use sagamill::{
    eventstore::{EventStore, NewEvent},
    prelude::{Answer, Definition, HandlerError, Saga, State, Tx, call, local},
};
use serde::{Deserialize, Serialize};
use shop_contracts::{Authorize, BookShipment, Capture, Delivery, Line, Money, OrderConfirmed, OrderId, ReserveStock};
use sqlx::Sqlite;
use uuid::Uuid;

/// The definition's name.
pub const PLACE_ORDER: &str = "place-order";

/// What the saga knows: the order as it was placed, and what the others have answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fulfilment {
    /// Which order; also the saga's key.
    pub order: OrderId,
    /// Who pays.
    pub customer: String,
    /// What goes out; an article at most once.
    pub lines: Vec<Line>,
    /// How it travels.
    pub delivery: Delivery,
    /// What it costs.
    pub total: Money,
    /// Inventory's answer.
    pub reservation: Option<Uuid>,
    /// The payment provider's answer.
    pub authorization: Option<String>,
    /// Shipping's answer.
    pub shipment: Option<Uuid>,
}

/// Reserve, authorize and book can each be refused and are undone in reverse. Taking the money decides: from there on the
/// order goes through.
pub fn place_order() -> Definition<Fulfilment> {
    Saga::define(PLACE_ORDER)
        .version(1)
        .step(
            "reserve",
            call(reserve)
                .on_reply(|order, reply| order.reservation = Some(reply.reservation))
                .undo(),
        )
        .step(
            "authorize",
            call(authorize)
                .on_reply(|order, reply| order.authorization = Some(reply.authorization))
                .undo(),
        )
        .step(
            "book",
            call(book)
                .on_reply(|order, reply| order.shipment = Some(reply.shipment))
                .undo(),
        )
        .pivot("capture", call(capture))
        .step("confirm", local(confirm))
        .build()
}

fn reserve(order: &Fulfilment) -> ReserveStock {
    ReserveStock {
        order: order.order.clone(),
        lines: order.lines.clone(),
    }
}

fn authorize(order: &Fulfilment) -> Authorize {
    Authorize {
        order: order.order.clone(),
        customer: order.customer.clone(),
        amount: order.total,
    }
}

fn book(order: &Fulfilment) -> BookShipment {
    BookShipment {
        order: order.order.clone(),
        delivery: order.delivery,
    }
}

fn capture(order: &Fulfilment) -> Capture {
    // The step before it has been answered, so the authorization is there; the provider refuses an empty one.
    let authorization = order.authorization.clone().unwrap_or_default();
    Capture {
        order: order.order.clone(),
        authorization,
        amount: order.total,
    }
}

/// Marks the order confirmed and says so to whoever listens, in one transaction with the step's barrier.
async fn confirm(
    State(store): State<EventStore<Sqlite>>,
    mut tx: Tx<Sqlite>,
    order: Fulfilment,
) -> Result<Answer<()>, HandlerError> {
    let number = order
        .order
        .number()
        .ok_or_else(|| HandlerError::permanent(format!("no order {}", order.order)))?;
    sqlx::query("update orders set confirmed_at = $1 where number = $2 and confirmed_at is null")
        .bind(Timestamp::now().to_string())
        .bind(number)
        .execute(&mut *tx)
        .await?;
    let confirmed = NewEvent::of(&OrderConfirmed {
        order: order.order.clone(),
    })?;
    store.stage_in(&mut tx, order.order.as_str(), [confirmed]).await?;
    Ok(Answer::Done(()))
}

//! What the order service asks of the others. Each undo is handled by the participant that did the step.

use sagamill::saga::Command;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Delivery, Line, Money, OrderId, Sku};

/// Sets stock aside for an order. Undone by a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReserveStock {
    /// For whom.
    pub order: OrderId,
    /// What; an article at most once.
    pub lines: Vec<Line>,
}
/// The stock is set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// Names the reservation.
    pub reservation: Uuid,
}
/// There is not enough of an article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfStock {
    /// The article.
    pub sku: Sku,
    /// How many there are.
    pub available: u32,
}
impl Command for ReserveStock {
    const NAME: &'static str = "inventory.reserve-stock";
    type Reply = Reserved;
    type Rejection = OutOfStock;
}

/// Asks the customer's bank to hold the money. Undone by a void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorize {
    /// For whom.
    pub order: OrderId,
    /// Who pays.
    pub customer: String,
    /// How much.
    pub amount: Money,
}
/// The money is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorized {
    /// The provider's name for it.
    pub authorization: String,
}
/// The bank says no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// What the provider says.
    pub reason: String,
}
impl Command for Authorize {
    const NAME: &'static str = "payment.authorize";
    type Reply = Authorized;
    type Rejection = Declined;
}

/// Books a carrier. Undone by a cancellation, which is possible until the goods are dispatched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookShipment {
    /// For whom.
    pub order: OrderId,
    /// How the goods travel.
    pub delivery: Delivery,
}
/// A carrier will come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booked {
    /// Names the shipment.
    pub shipment: Uuid,
}
/// No carrier takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarrierDown {
    /// Who was asked.
    pub carrier: String,
}
impl Command for BookShipment {
    const NAME: &'static str = "shipping.book-shipment";
    type Reply = Booked;
    type Rejection = CarrierDown;
}

/// Takes the money that was held. The pivot: there is no undo, and what stands after it is done in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// For whom.
    pub order: OrderId,
    /// What was held.
    pub authorization: String,
    /// How much of it.
    pub amount: Money,
}
/// The money is the shop's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// How much.
    pub amount: Money,
}
/// The authorization no longer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureRejected {
    /// What the provider says.
    pub reason: String,
}
impl Command for Capture {
    const NAME: &'static str = "payment.capture";
    type Reply = Captured;
    type Rejection = CaptureRejected;
}

//! What the services of the cases ask of each other.
#![allow(dead_code, reason = "each case uses some of it")]

use sagamill_saga::{Command, Event, Never};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReserveStock {
    pub sku: String,
    pub quantity: u32,
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reserved {
    pub id: u64,
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutOfStock {
    pub left: u32,
}
impl Command for ReserveStock {
    const NAME: &'static str = "inventory.reserve-stock";
    type Reply = Reserved;
    type Rejection = OutOfStock;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Charge {
    pub cents: u32,
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Declined;
impl Command for Charge {
    const NAME: &'static str = "payment.charge";
    type Reply = ();
    type Rejection = Declined;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ship {
    pub reservation: u64,
}
impl Command for Ship {
    const NAME: &'static str = "shipping.ship";
    type Reply = ();
    type Rejection = Never;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approved {
    pub by: String,
}
impl Event for Approved {
    const NAME: &'static str = "order.approved";
}

/// What the order saga remembers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub sku: String,
    pub quantity: u32,
    pub cents: u32,
    pub reservation: u64,
    pub approved_by: Option<String>,
}

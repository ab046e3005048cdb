//! What happened to an order, for whoever wants to know.

use sagamill::saga::Event;
use serde::{Deserialize, Serialize};

use crate::{Line, Money, OrderId};

/// An order was accepted; its saga starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPlaced {
    /// The order.
    pub order: OrderId,
    /// Who ordered.
    pub customer: String,
    /// What; an article at most once.
    pub lines: Vec<Line>,
    /// What it costs.
    pub total: Money,
}
impl Event for OrderPlaced {
    const NAME: &'static str = "order.placed";
}

/// An order is paid and goes its way: the goods may be dispatched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderConfirmed {
    /// The order.
    pub order: OrderId,
}
impl Event for OrderConfirmed {
    const NAME: &'static str = "order.confirmed";
}

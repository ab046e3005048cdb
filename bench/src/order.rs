//! The event that is stored: about 250 bytes of JSON.

use sagamill::eventstore::{Event, NewEvent};
use serde::{Deserialize, Serialize};

/// What happens to an order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OrderEvent {
    Placed {
        customer: String,
        items: Vec<Item>,
        total_cents: u64,
        address: String,
    },
    Paid {
        amount_cents: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    sku: String,
    quantity: u32,
    price_cents: u64,
}

impl Event for OrderEvent {
    const NAME: &'static str = "bench-order";

    fn topic() -> Option<sagamill::bus::Topic> {
        None
    }
}

impl OrderEvent {
    pub(crate) fn placed(number: u64) -> Self {
        let item = |sku: &str| Item {
            sku: format!("{sku}-{number:06}"),
            quantity: 2,
            price_cents: 1_999,
        };
        Self::Placed {
            customer: format!("customer-{number:08}"),
            items: vec![item("mug"), item("poster")],
            total_cents: 7_996,
            address: "12 Long Street, 4th floor, at the back; ring twice".to_owned(),
        }
    }
    /// A value that a reader has to look at.
    pub(crate) fn cents(&self) -> u64 {
        match self {
            Self::Placed { items, .. } => items
                .iter()
                .map(|item| u64::from(item.quantity) * item.price_cents)
                .sum(),
            Self::Paid { amount_cents } => *amount_cents,
        }
    }
}

/// An event with a new id.
pub(crate) fn new_event(number: u64) -> anyhow::Result<NewEvent> {
    Ok(NewEvent::of(&OrderEvent::placed(number))?)
}

//! What orders are made of: ids, articles, quantities.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names an order, and with it the saga that fulfils it: `order-17`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(String);

impl OrderId {
    /// The order of this number; numbers count up from 1 in the order in which orders are accepted.
    pub fn numbered(number: i64) -> Self {
        Self(format!("order-{number}"))
    }
    /// Its number; none where the text is no order's id.
    pub fn number(&self) -> Option<i64> {
        let number = self.0.strip_prefix("order-")?.parse().ok()?;
        (number > 0 && Self::numbered(number) == *self).then_some(number)
    }
    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl<T: Into<String>> From<T> for OrderId {
    fn from(id: T) -> Self {
        Self(id.into())
    }
}
impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names an article of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sku(String);

impl Sku {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl<T: Into<String>> From<T> for Sku {
    fn from(name: T) -> Self {
        Self(name.into())
    }
}
impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many of an article: 1 to [`Quantity::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Quantity(u32);

impl Quantity {
    /// The most of one article in one order.
    pub const MAX: u32 = 1_000;

    /// As a number.
    pub const fn get(self) -> u32 {
        self.0
    }
    /// From what a database has stored.
    ///
    /// # Errors
    /// Where it is none.
    pub fn stored(quantity: i64) -> Result<Self, QuantityError> {
        Self::try_from(u32::try_from(quantity).unwrap_or(0))
    }
    /// Both together.
    ///
    /// # Errors
    /// Where that is more than [`Quantity::MAX`].
    pub fn plus(self, other: Self) -> Result<Self, QuantityError> {
        // Two quantities of at most 1,000 each cannot overflow a `u32`.
        Self::try_from(self.0 + other.0)
    }
}
impl TryFrom<u32> for Quantity {
    type Error = QuantityError;
    fn try_from(quantity: u32) -> Result<Self, QuantityError> {
        match quantity {
            1..=Self::MAX => Ok(Self(quantity)),
            _ => Err(QuantityError { quantity }),
        }
    }
}
impl From<Quantity> for u32 {
    fn from(quantity: Quantity) -> Self {
        quantity.0
    }
}
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a quantity is 1 to {}, not {quantity}", Quantity::MAX)]
pub struct QuantityError {
    /// What was asked for.
    pub quantity: u32,
}

/// So many of one article.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The article.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_id_has_one_spelling() {
        assert_eq!(OrderId::numbered(17).number(), Some(17));
        for other in ["order-017", "order-0", "order--1", "order-", "17", "order-+1"] {
            assert_eq!(OrderId::from(other).number(), None, "{other}");
        }
    }

    #[test]
    fn quantity_is_a_whole_number_within_its_bounds() {
        assert!(serde_json::from_str::<Quantity>("1000").is_ok());
        for other in ["0", "-1", "1.5", "1.0", "1001", "4294967297", "1e3", "\"1\"", "null"] {
            assert!(serde_json::from_str::<Quantity>(other).is_err(), "{other}");
        }
    }
}

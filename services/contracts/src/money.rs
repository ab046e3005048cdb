//! Money as a whole number of minor units.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Quantity;

/// An amount in minor units (cents). Its arithmetic is checked: an amount never wraps and is never rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many minor units.
    pub const fn minor(units: i64) -> Self {
        Self(units)
    }
    /// In minor units.
    pub const fn as_minor(self) -> i64 {
        self.0
    }
    /// The sum; none where it does not fit.
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
    /// The price of so many; none where it does not fit.
    pub fn times(self, quantity: Quantity) -> Option<Self> {
        self.0.checked_mul(i64::from(quantity.get())).map(Self)
    }
    /// The sum of all; none where it does not fit.
    pub fn total(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts.into_iter().try_fold(Self::ZERO, Self::plus)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let units = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", units / 100, units % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amount_is_written_with_two_decimals() {
        assert_eq!(Money::minor(450).to_string(), "4.50");
        assert_eq!(Money::minor(-5).to_string(), "-0.05");
    }

    #[test]
    fn sum_that_does_not_fit_is_none() {
        assert_eq!(Money::total([Money::minor(i64::MAX), Money::minor(1)]), None);
        assert_eq!(Money::minor(i64::MAX).times(Quantity::try_from(2).unwrap()), None);
    }
}

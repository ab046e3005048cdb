//! What a customer asks for, before it is an order.

use std::collections::BTreeMap;

use serde::Deserialize;
use shop_contracts::{Delivery, Line, Money, Quantity, QuantityError, Sku, article};

/// Most lines of one request.
pub const ITEMS_MAX: usize = 50;
/// Most characters of a customer's name.
pub const CUSTOMER_MAX: usize = 100;

/// The body of `POST /orders`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderRequest {
    pub(crate) customer: String,
    pub(crate) items: Vec<Line>,
}

/// A request that can be an order: an article at most once, sorted, all of them known, and its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Basket {
    pub(crate) customer: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) delivery: Delivery,
    pub(crate) total: Money,
}

/// Why a request cannot be an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BasketError {
    #[error("a customer's name is 1 to {CUSTOMER_MAX} characters, none of them a control character")]
    Customer,
    #[error("an order has at least one item")]
    NoItems,
    #[error("an order has at most {ITEMS_MAX} items, not {0}")]
    TooManyItems(usize),
    #[error("there is no article `{0}`")]
    UnknownSku(Sku),
    #[error("`{sku}`: {source}")]
    Quantity { sku: Sku, source: QuantityError },
    #[error("the total is too large to be an amount")]
    TotalTooLarge,
}

impl TryFrom<OrderRequest> for Basket {
    type Error = BasketError;

    fn try_from(request: OrderRequest) -> Result<Self, BasketError> {
        let customer = request.customer.trim().to_owned();
        if !(1..=CUSTOMER_MAX).contains(&customer.chars().count()) || customer.chars().any(char::is_control) {
            return Err(BasketError::Customer);
        }
        match request.items.len() {
            0 => return Err(BasketError::NoItems),
            1..=ITEMS_MAX => {}
            more => return Err(BasketError::TooManyItems(more)),
        }
        let lines = merge(request.items)?;
        let (mut delivery, mut total) = (Delivery::Parcel, Money::ZERO);
        for line in &lines {
            let article = article(line.sku.as_str()).ok_or_else(|| BasketError::UnknownSku(line.sku.clone()))?;
            delivery = delivery.max(article.delivery);
            let price = article.price.times(line.quantity);
            total = price
                .and_then(|price| total.plus(price))
                .ok_or(BasketError::TotalTooLarge)?;
        }
        Ok(Self {
            customer,
            lines,
            delivery,
            total,
        })
    }
}

fn merge(items: Vec<Line>) -> Result<Vec<Line>, BasketError> {
    let mut merged: BTreeMap<Sku, Quantity> = BTreeMap::new();
    for Line { sku, quantity } in items {
        let sum = match merged.get(&sku) {
            Some(before) => before.plus(quantity).map_err(|source| BasketError::Quantity {
                sku: sku.clone(),
                source,
            })?,
            None => quantity,
        };
        merged.insert(sku, sum);
    }
    Ok(merged
        .into_iter()
        .map(|(sku, quantity)| Line { sku, quantity })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basket(items: &[(&str, u32)]) -> Result<Basket, BasketError> {
        let line = |&(sku, quantity): &(&str, u32)| Line {
            sku: sku.into(),
            quantity: quantity.try_into().unwrap(),
        };
        OrderRequest {
            customer: "ada".into(),
            items: items.iter().map(line).collect(),
        }
        .try_into()
    }

    #[test]
    fn lines_of_one_article_are_one_line() {
        let basket = basket(&[("mug", 1), ("assam", 2), ("mug", 2)]).unwrap();
        let lines: Vec<_> = basket
            .lines
            .iter()
            .map(|line| (line.sku.as_str(), line.quantity.get()))
            .collect();
        assert_eq!(lines, [("assam", 2), ("mug", 3)]);
        assert_eq!(basket.total, Money::minor(2 * 690 + 3 * 1_200));
    }

    #[test]
    fn quantities_that_add_up_to_too_much_are_refused() {
        assert!(matches!(
            basket(&[("mug", 1_000), ("mug", 1)]),
            Err(BasketError::Quantity { .. })
        ));
    }

    #[test]
    fn one_article_that_needs_freight_makes_the_order_freight() {
        assert_eq!(basket(&[("urn", 1), ("mug", 1)]).unwrap().delivery, Delivery::Freight);
        assert_eq!(basket(&[("mug", 1)]).unwrap().delivery, Delivery::Parcel);
    }

    #[test]
    fn unknown_article_is_named() {
        assert_eq!(
            basket(&[("mug", 1), ("anvil", 1)]),
            Err(BasketError::UnknownSku("anvil".into()))
        );
    }

    #[test]
    fn customer_has_a_printable_name() {
        for name in ["", "  ", "a\nb", "\u{0}", &"x".repeat(CUSTOMER_MAX + 1)] {
            let items = vec![Line {
                sku: "mug".into(),
                quantity: 1.try_into().unwrap(),
            }];
            let request = OrderRequest {
                customer: name.to_owned(),
                items,
            };
            assert_eq!(Basket::try_from(request), Err(BasketError::Customer), "{name:?}");
        }
    }
}

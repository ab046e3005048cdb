//! What the shop sells.

use serde::{Deserialize, Serialize};

use crate::Money;

/// An article: order knows its price, inventory its stock, shipping how it travels.
#[derive(Debug, Clone, Copy)]
pub struct Article {
    /// Its name.
    pub sku: &'static str,
    /// The price of one.
    pub price: Money,
    /// How many there are when the shop opens.
    pub stock: u32,
    /// How it travels.
    pub delivery: Delivery,
}

/// How goods travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// By post.
    Parcel,
    /// On a pallet.
    Freight,
}

const fn parcel(sku: &'static str, price: i64, stock: u32) -> Article {
    Article {
        sku,
        price: Money::minor(price),
        stock,
        delivery: Delivery::Parcel,
    }
}

/// All articles. Three of them fail by design, each at another step: the samovar is sold out, the golden teapot costs more
/// than the payment provider authorizes at once, and the freight carrier, which the urn needs, is down.
pub const CATALOGUE: &[Article] = &[
    parcel("assam", 690, 1_000_000),
    parcel("sencha", 850, 1_000_000),
    parcel("mug", 1_200, 1_000_000),
    parcel("teapot", 2_750, 1_000_000),
    parcel("kettle", 4_900, 1_000_000),
    parcel("golden-teapot", 640_000, 1_000_000),
    parcel("samovar", 18_900, 0),
    Article {
        sku: "urn",
        price: Money::minor(32_500),
        stock: 1_000_000,
        delivery: Delivery::Freight,
    },
];

/// The article of this name.
pub fn article(sku: &str) -> Option<&'static Article> {
    CATALOGUE.iter().find(|article| article.sku == sku)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_article_has_one_entry() {
        let names: BTreeSet<_> = CATALOGUE.iter().map(|article| article.sku).collect();
        assert_eq!(names.len(), CATALOGUE.len());
    }
}

//! How shipping answers for its database.

use shop_contracts::{Answering, BookedShipment, BooksError, OrderId, ShipmentState, ShippingBook, ShippingBooks};
use sqlx::SqlitePool;

#[derive(Debug)]
pub(crate) struct Books(pub(crate) SqlitePool);

impl ShippingBooks for Books {
    fn book(&self) -> Answering<'_, ShippingBook> {
        Box::pin(async {
            let shipments = shipments(&self.0)
                .await
                .map_err(|error| BooksError::new("shipping", error))?;
            Ok(ShippingBook { shipments })
        })
    }
}

async fn shipments(pool: &SqlitePool) -> Result<Vec<BookedShipment>, sqlx::Error> {
    let rows: Vec<(String, String)> = sqlx::query_as("select order_id, state from shipment order by effect")
        .fetch_all(pool)
        .await?;
    let shipment = |(order, state): (String, String)| {
        let state = ShipmentState::parse(&state).ok_or_else(|| sqlx::Error::Decode(state.into()))?;
        Ok(BookedShipment {
            order: OrderId::from(order),
            state,
        })
    };
    rows.into_iter().map(shipment).collect()
}

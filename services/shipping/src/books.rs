//! How shipping answers for its database.

use shop_contracts::{Answering, Book, BookedShipment, BooksError, OrderId, ShipmentState, ShippingBook};
use shop_frame::Db;
use sqlx::Pool;

#[derive(Debug)]
pub(crate) struct Books<D: Db>(pub(crate) Pool<D>);

impl<D: Db> Book<ShippingBook> for Books<D> {
    fn read(&self) -> Answering<'_, ShippingBook> {
        Box::pin(async {
            let shipments = shipments(&self.0)
                .await
                .map_err(|error| BooksError::new("shipping", error))?;
            Ok(ShippingBook { shipments })
        })
    }
}

async fn shipments<D: Db>(pool: &Pool<D>) -> Result<Vec<BookedShipment>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let rows: Vec<(String, String)> = D::sql(&mut connection)
        .rows("select order_id, state from shipment order by effect", &[])
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

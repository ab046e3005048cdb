//! How inventory answers for its database.

use std::collections::BTreeMap;

use shop_contracts::{
    Answering, BooksError, InventoryBooks, Line, OrderId, Quantity, Reservation, Sku, StockBook, StockLevel,
};
use sqlx::{SqliteConnection, SqlitePool};

#[derive(Debug)]
pub(crate) struct Books(pub(crate) SqlitePool);

impl InventoryBooks for Books {
    fn stock(&self) -> Answering<'_, Vec<StockLevel>> {
        Box::pin(async {
            let mut connection = self.0.acquire().await.map_err(failed)?;
            stock(&mut connection).await.map_err(failed)
        })
    }
    fn book(&self) -> Answering<'_, StockBook> {
        Box::pin(async {
            // One read transaction is one snapshot: both tables as they were at one moment.
            let mut tx = self.0.begin().await.map_err(failed)?;
            let stock = stock(&mut tx).await.map_err(failed)?;
            let reservations = reservations(&mut tx).await.map_err(failed)?;
            Ok(StockBook { stock, reservations })
        })
    }
}

fn failed(error: sqlx::Error) -> BooksError {
    BooksError::new("inventory", error)
}

async fn stock(connection: &mut SqliteConnection) -> Result<Vec<StockLevel>, sqlx::Error> {
    let levels: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "select sku, initial, available,
                (select coalesce(sum(line.quantity), 0) from reservation_line as line
                 join reservation on reservation.effect = line.effect
                 where line.sku = stock.sku and released_at is null)
         from stock order by sku",
    )
    .fetch_all(connection)
    .await?;
    let level = |(sku, initial, available, held)| StockLevel {
        sku: Sku::from(sku),
        initial,
        available,
        held,
    };
    Ok(levels.into_iter().map(level).collect())
}

async fn reservations(connection: &mut SqliteConnection) -> Result<Vec<Reservation>, sqlx::Error> {
    let lines: Vec<(String, String, bool, String, u32)> = sqlx::query_as(
        "select effect, order_id, released_at is null, sku, quantity
         from reservation join reservation_line using (effect) order by effect, sku",
    )
    .fetch_all(connection)
    .await?;
    let mut reservations: BTreeMap<String, Reservation> = BTreeMap::new();
    for (effect, order, held, sku, quantity) in lines {
        let quantity = Quantity::try_from(quantity).map_err(|error| sqlx::Error::Decode(error.into()))?;
        let empty = || Reservation {
            order: OrderId::from(order),
            lines: Vec::new(),
            held,
        };
        reservations.entry(effect).or_insert_with(empty).lines.push(Line {
            sku: Sku::from(sku),
            quantity,
        });
    }
    Ok(reservations.into_values().collect())
}

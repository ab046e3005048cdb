//! How inventory answers for its database.

use std::collections::BTreeMap;

use shop_contracts::{Answering, Book, BooksError, Line, OrderId, Quantity, Reservation, Sku, StockBook, StockLevel};
use shop_frame::{Db, Sql, snapshot};
use sqlx::Pool;

#[derive(Debug)]
pub(crate) struct Books<D: Db>(pub(crate) Pool<D>);

impl<D: Db> Book<Vec<StockLevel>> for Books<D> {
    fn read(&self) -> Answering<'_, Vec<StockLevel>> {
        Box::pin(async {
            let mut connection = self.0.acquire().await.map_err(failed)?;
            stock(&mut D::sql(&mut connection)).await.map_err(failed)
        })
    }
}
impl<D: Db> Book<StockBook> for Books<D> {
    fn read(&self) -> Answering<'_, StockBook> {
        Box::pin(async {
            let mut tx = snapshot(&self.0).await.map_err(failed)?;
            let stock = stock(&mut D::sql(&mut tx)).await.map_err(failed)?;
            let reservations = reservations(&mut D::sql(&mut tx)).await.map_err(failed)?;
            Ok(StockBook { stock, reservations })
        })
    }
}

fn failed(error: sqlx::Error) -> BooksError {
    BooksError::new("inventory", error)
}

async fn stock(sql: &mut Sql<'_>) -> Result<Vec<StockLevel>, sqlx::Error> {
    let levels: Vec<(String, i64, i64, i64)> = sql
        .rows(
            "select sku, initial, available,
                (select cast(coalesce(sum(line.quantity), 0) as bigint) from reservation_line as line
                 join reservation on reservation.effect = line.effect
                 where line.sku = stock.sku and released_at is null)
             from stock order by sku",
            &[],
        )
        .await?;
    let level = |(sku, initial, available, held)| StockLevel {
        sku: Sku::from(sku),
        initial,
        available,
        held,
    };
    Ok(levels.into_iter().map(level).collect())
}

async fn reservations(sql: &mut Sql<'_>) -> Result<Vec<Reservation>, sqlx::Error> {
    let lines: Vec<(String, String, bool, String, i64)> = sql
        .rows(
            "select effect, order_id, released_at is null, sku, quantity
             from reservation join reservation_line using (effect) order by effect, sku",
            &[],
        )
        .await?;
    let mut reservations: BTreeMap<String, Reservation> = BTreeMap::new();
    for (effect, order, held, sku, quantity) in lines {
        let empty = || Reservation {
            order: OrderId::from(order),
            lines: Vec::new(),
            held,
        };
        reservations.entry(effect).or_insert_with(empty).lines.push(Line {
            sku: Sku::from(sku),
            quantity: Quantity::stored(quantity).map_err(|error| sqlx::Error::Decode(error.into()))?,
        });
    }
    Ok(reservations.into_values().collect())
}

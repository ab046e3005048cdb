//! The domain: stock never falls below zero, and what is set aside is given back whole.

use jiff::Timestamp;
use sagamill::saga::Answer::{self, Done, Rejected};
use shop_contracts::{CATALOGUE, Line, OrderId, OutOfStock, Reserved, Sku};
use shop_frame::{Db, Location, Script, Sql, script, values};
use sqlx::Pool;
use uuid::Uuid;

const TABLES: Script = script!("001-stock.sql");

/// Opens the database, makes the tables where they are missing, and fills the shelves once.
pub(crate) async fn open<D: Db>(database: &Location) -> Result<Pool<D>, sqlx::Error> {
    let pool = shop_frame::open::<D>(database, &TABLES).await?;
    let mut tx = shop_frame::begin(&pool).await?;
    let mut sql = D::sql(&mut tx);
    for article in CATALOGUE {
        let fill = "insert into stock (sku, initial, available) values ($1, $2, $2) on conflict do nothing";
        sql.execute(fill, &values![article.sku, article.stock]).await?;
    }
    tx.commit().await?;
    Ok(pool)
}

/// Sets all lines aside, or nothing: where a line is short, the caller rolls back what this has done.
pub(crate) async fn reserve(
    sql: &mut Sql<'_>,
    effect: Uuid,
    order: &OrderId,
    lines: &[Line],
) -> Result<Answer<Reserved, OutOfStock>, sqlx::Error> {
    let effect_id = effect.to_string();
    let reservation = "insert into reservation (effect, order_id, reserved_at) values ($1, $2, $3)";
    sql.execute(
        reservation,
        &values![&effect_id, order.as_str(), Timestamp::now().to_string()],
    )
    .await?;
    for line in lines {
        let aside = "insert into reservation_line (effect, sku, quantity) values ($1, $2, $3)";
        sql.execute(aside, &values![&effect_id, line.sku.as_str(), line.quantity.get()])
            .await?;
    }
    // Last, because everybody who wants one of these articles waits from here to the commit.
    for line in lines {
        if let Some(short) = take(sql, line).await? {
            return Ok(Rejected(short));
        }
    }
    Ok(Done(Reserved { reservation: effect }))
}

async fn take(sql: &mut Sql<'_>, line: &Line) -> Result<Option<OutOfStock>, sqlx::Error> {
    let take = "update stock set available = available - $1 where sku = $2 and available >= $1";
    let taken = sql
        .execute(take, &values![line.quantity.get(), line.sku.as_str()])
        .await?;
    if taken == 1 {
        return Ok(None);
    }
    let left: Option<(i64,)> = sql
        .row(
            "select available from stock where sku = $1",
            &values![line.sku.as_str()],
        )
        .await?;
    let available = left.and_then(|(left,)| u32::try_from(left).ok()).unwrap_or(0);
    Ok(Some(OutOfStock {
        sku: Sku::from(line.sku.as_str()),
        available,
    }))
}

/// Gives a reservation's stock back, once.
pub(crate) async fn release(sql: &mut Sql<'_>, reservation: Uuid) -> Result<(), sqlx::Error> {
    let effect = reservation.to_string();
    let release = "update reservation set released_at = $1 where effect = $2 and released_at is null";
    let released = sql
        .execute(release, &values![Timestamp::now().to_string(), &effect])
        .await?;
    if released == 0 {
        return Ok(());
    }
    // Article by article, in the order in which they are taken: whoever locks them meets the others in one order.
    let lines = "select sku, quantity from reservation_line where effect = $1 order by sku";
    let lines: Vec<(String, i64)> = sql.rows(lines, &values![&effect]).await?;
    for (sku, quantity) in lines {
        let give_back = "update stock set available = available + $1 where sku = $2";
        sql.execute(give_back, &values![quantity, &sku]).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shop_contracts::{Book, Quantity, StockBook};
    use sqlx::{Sqlite, SqlitePool};

    use super::*;
    use crate::books::Books;

    struct Shelves {
        pool: SqlitePool,
        directory: tempfile::TempDir,
    }

    fn file(directory: &tempfile::TempDir) -> Location {
        Location::File(directory.path().join("inventory.db"))
    }

    impl Shelves {
        async fn open() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let pool = open(&file(&directory)).await.unwrap();
            Self { pool, directory }
        }
        /// As the library does: commits what is done, rolls back what is rejected.
        async fn reserve(&self, effect: Uuid, lines: &[Line]) -> Answer<Reserved, OutOfStock> {
            let mut tx = self.pool.begin().await.unwrap();
            let answer = reserve(&mut Sqlite::sql(&mut tx), effect, &OrderId::numbered(1), lines)
                .await
                .unwrap();
            match &answer {
                Done(_) => tx.commit().await.unwrap(),
                Rejected(_) => tx.rollback().await.unwrap(),
            }
            answer
        }
        async fn release(&self, effect: Uuid) {
            let mut tx = self.pool.begin().await.unwrap();
            release(&mut Sqlite::sql(&mut tx), effect).await.unwrap();
            tx.commit().await.unwrap();
        }
        async fn book(&self) -> StockBook {
            let book: StockBook = Books(self.pool.clone()).read().await.unwrap();
            for level in &book.stock {
                assert_eq!(level.initial, level.available + level.held, "{level:?}");
            }
            book
        }
        async fn available(&self, sku: &str) -> i64 {
            self.book()
                .await
                .stock
                .iter()
                .find(|level| level.sku.as_str() == sku)
                .unwrap()
                .available
        }
        async fn set(&self, sku: &str, stock: i64) {
            let set = sqlx::query("update stock set initial = $1, available = $1 where sku = $2");
            set.bind(stock).bind(sku).execute(&self.pool).await.unwrap();
        }
    }

    fn line(sku: &str, quantity: u32) -> Line {
        Line {
            sku: sku.into(),
            quantity: Quantity::try_from(quantity).unwrap(),
        }
    }

    #[tokio::test]
    async fn reserved_stock_is_not_available_until_it_is_released_once() {
        let shelves = Shelves::open().await;
        let before = shelves.available("mug").await;
        let effect = Uuid::now_v7();
        assert_eq!(
            shelves.reserve(effect, &[line("mug", 3)]).await,
            Done(Reserved { reservation: effect })
        );
        assert_eq!(shelves.available("mug").await, before - 3);
        shelves.release(effect).await;
        shelves.release(effect).await;
        assert_eq!(shelves.available("mug").await, before);
        assert!(!shelves.book().await.reservations[0].held);
    }

    #[tokio::test]
    async fn one_short_line_leaves_all_others_alone() {
        let shelves = Shelves::open().await;
        let before = shelves.available("mug").await;
        let answer = shelves
            .reserve(Uuid::now_v7(), &[line("mug", 3), line("samovar", 1)])
            .await;
        assert_eq!(
            answer,
            Rejected(OutOfStock {
                sku: "samovar".into(),
                available: 0
            })
        );
        assert_eq!(shelves.available("mug").await, before);
        assert!(shelves.book().await.reservations.is_empty());
    }

    #[tokio::test]
    async fn last_one_is_sold_once() {
        let shelves = Shelves::open().await;
        shelves.set("urn", 1).await;
        assert!(matches!(
            shelves.reserve(Uuid::now_v7(), &[line("urn", 1)]).await,
            Done(_)
        ));
        let second = shelves.reserve(Uuid::now_v7(), &[line("urn", 1)]).await;
        assert_eq!(
            second,
            Rejected(OutOfStock {
                sku: "urn".into(),
                available: 0
            })
        );
    }

    #[tokio::test]
    async fn database_itself_refuses_stock_below_zero() {
        let shelves = Shelves::open().await;
        let below = sqlx::query("update stock set available = -1 where sku = 'mug'")
            .execute(&shelves.pool)
            .await;
        assert!(below.is_err());
    }

    #[tokio::test]
    async fn shelves_are_filled_only_once() {
        let shelves = Shelves::open().await;
        shelves.reserve(Uuid::now_v7(), &[line("mug", 3)]).await;
        let before = shelves.book().await;
        open::<Sqlite>(&file(&shelves.directory)).await.unwrap();
        assert_eq!(shelves.book().await, before);
    }
}

//! The domain: a shipment is booked with the carrier that goes its way, and can be cancelled until it is dispatched.

use jiff::Timestamp;
use sagamill::saga::Answer::{self, Done, Rejected};
use shop_contracts::{Booked, CarrierDown, Delivery, OrderId, ShipmentState};
use shop_frame::{Script, Sql, script, values};
use uuid::Uuid;

pub(crate) const TABLES: Script = script!("001-shipping.sql");

/// The goods are gone: too late to cancel.
#[derive(Debug, thiserror::Error)]
#[error("shipment {shipment} has been dispatched and cannot be cancelled")]
pub(crate) struct Dispatched {
    pub(crate) shipment: Uuid,
}

/// Books the carrier that takes such goods, if it is up.
pub(crate) async fn book(
    sql: &mut Sql<'_>,
    effect: Uuid,
    order: &OrderId,
    delivery: Delivery,
) -> Result<Answer<Booked, CarrierDown>, sqlx::Error> {
    let delivery = match delivery {
        Delivery::Parcel => "parcel",
        Delivery::Freight => "freight",
    };
    let carrier = "select name, up from carrier where delivery = $1";
    let carrier: Option<(String, bool)> = sql.row(carrier, &values![delivery]).await?;
    let (carrier, up) = carrier.ok_or(sqlx::Error::RowNotFound)?;
    if !up {
        return Ok(Rejected(CarrierDown { carrier }));
    }
    sql.execute(
        "insert into shipment (effect, order_id, carrier, state, updated_at) values ($1, $2, $3, $4, $5)",
        &values![
            effect.to_string(),
            order.as_str(),
            carrier,
            ShipmentState::Booked.as_str(),
            Timestamp::now().to_string()
        ],
    )
    .await?;
    Ok(Done(Booked { shipment: effect }))
}

/// Cancels a shipment; cancelled twice, it is cancelled.
pub(crate) async fn cancel(sql: &mut Sql<'_>, shipment: Uuid) -> Result<Result<(), Dispatched>, sqlx::Error> {
    let id = shipment.to_string();
    sql.execute(
        "update shipment set state = $1, updated_at = $2 where effect = $3 and state = $4",
        &values![
            ShipmentState::Cancelled.as_str(),
            Timestamp::now().to_string(),
            &id,
            ShipmentState::Booked.as_str()
        ],
    )
    .await?;
    let gone = "select exists (select 1 from shipment where effect = $1 and state = 'dispatched')";
    let dispatched: bool = sql.value(gone, &values![&id]).await?;
    Ok(if dispatched {
        Err(Dispatched { shipment })
    } else {
        Ok(())
    })
}

/// The carrier has come for an order's goods; once gone, they are gone.
pub(crate) async fn dispatch(sql: &mut Sql<'_>, order: &OrderId) -> Result<(), sqlx::Error> {
    sql.execute(
        "update shipment set state = $1, updated_at = $2 where order_id = $3 and state = $4",
        &values![
            ShipmentState::Dispatched.as_str(),
            Timestamp::now().to_string(),
            order.as_str(),
            ShipmentState::Booked.as_str()
        ],
    )
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use shop_contracts::Book;
    use shop_frame::{Db, Location};
    use sqlx::{Sqlite, SqlitePool, pool::PoolConnection};

    use super::*;
    use crate::books::Books;

    struct Dock {
        pool: SqlitePool,
        directory: tempfile::TempDir,
    }

    fn file(directory: &tempfile::TempDir) -> Location {
        Location::File(directory.path().join("shipping.db"))
    }

    impl Dock {
        async fn open() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let pool = shop_frame::open(&file(&directory), &TABLES).await.unwrap();
            Self { pool, directory }
        }
        async fn connection(&self) -> PoolConnection<Sqlite> {
            self.pool.acquire().await.unwrap()
        }
        async fn book(&self, delivery: Delivery) -> Answer<Booked, CarrierDown> {
            let mut connection = self.connection().await;
            book(
                &mut Sqlite::sql(&mut connection),
                Uuid::now_v7(),
                &OrderId::numbered(1),
                delivery,
            )
            .await
            .unwrap()
        }
        async fn booked(&self) -> Uuid {
            let Done(Booked { shipment }) = self.book(Delivery::Parcel).await else {
                panic!("a parcel can be booked")
            };
            shipment
        }
        async fn cancel(&self, shipment: Uuid) -> Result<(), Dispatched> {
            let mut connection = self.connection().await;
            cancel(&mut Sqlite::sql(&mut connection), shipment).await.unwrap()
        }
        async fn states(&self) -> Vec<ShipmentState> {
            let book = Books(self.pool.clone()).read().await.unwrap();
            book.shipments.into_iter().map(|shipment| shipment.state).collect()
        }
    }

    #[tokio::test]
    async fn carrier_that_is_down_takes_nothing() {
        let dock = Dock::open().await;
        assert!(matches!(
            dock.book(Delivery::Freight).await,
            Rejected(CarrierDown { .. })
        ));
        assert!(dock.states().await.is_empty());
    }

    #[tokio::test]
    async fn shipment_can_be_cancelled_until_it_is_dispatched() {
        let dock = Dock::open().await;
        let first = dock.booked().await;
        dock.cancel(first).await.unwrap();
        dock.cancel(first).await.unwrap();
        assert_eq!(dock.states().await, [ShipmentState::Cancelled]);

        let second = dock.booked().await;
        let mut connection = dock.connection().await;
        dispatch(&mut Sqlite::sql(&mut connection), &OrderId::numbered(1))
            .await
            .unwrap();
        assert!(dock.cancel(second).await.is_err());
        let mut states = dock.states().await;
        states.sort_by_key(|state| state.as_str());
        assert_eq!(states, [ShipmentState::Cancelled, ShipmentState::Dispatched]);
    }

    #[tokio::test]
    async fn carrier_that_came_back_stays_up_over_a_restart() {
        let dock = Dock::open().await;
        sqlx::query("update carrier set up = 1")
            .execute(&dock.pool)
            .await
            .unwrap();
        shop_frame::open::<Sqlite>(&file(&dock.directory), &TABLES)
            .await
            .unwrap();
        assert!(matches!(dock.book(Delivery::Freight).await, Done(_)));
    }
}

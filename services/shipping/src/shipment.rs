//! The domain: a shipment is booked with the carrier that goes its way, and can be cancelled until it is dispatched.

use jiff::Timestamp;
use sagamill::saga::Answer::{self, Done, Rejected};
use shop_contracts::{Booked, CarrierDown, Delivery, OrderId, ShipmentState};
use sqlx::{SqliteConnection, SqlitePool};
use uuid::Uuid;

/// The goods are gone: too late to cancel.
#[derive(Debug, thiserror::Error)]
#[error("shipment {shipment} has been dispatched and cannot be cancelled")]
pub(crate) struct Dispatched {
    pub(crate) shipment: Uuid,
}

pub(crate) async fn migrate(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(include_str!("migrations/001-shipping.sql"))
        .execute(pool)
        .await
        .map(drop)
}

/// Books the carrier that takes such goods, if it is up.
pub(crate) async fn book(
    connection: &mut SqliteConnection,
    effect: Uuid,
    order: &OrderId,
    delivery: Delivery,
) -> Result<Answer<Booked, CarrierDown>, sqlx::Error> {
    let delivery = match delivery {
        Delivery::Parcel => "parcel",
        Delivery::Freight => "freight",
    };
    let (carrier, up): (String, bool) = sqlx::query_as("select name, up from carrier where delivery = $1")
        .bind(delivery)
        .fetch_one(&mut *connection)
        .await?;
    if !up {
        return Ok(Rejected(CarrierDown { carrier }));
    }
    sqlx::query("insert into shipment (effect, order_id, carrier, state, updated_at) values ($1, $2, $3, $4, $5)")
        .bind(effect.to_string())
        .bind(order.as_str())
        .bind(carrier)
        .bind(ShipmentState::Booked.as_str())
        .bind(Timestamp::now().to_string())
        .execute(connection)
        .await?;
    Ok(Done(Booked { shipment: effect }))
}

/// Cancels a shipment; cancelled twice, it is cancelled.
pub(crate) async fn cancel(
    connection: &mut SqliteConnection,
    shipment: Uuid,
) -> Result<Result<(), Dispatched>, sqlx::Error> {
    let state = "update shipment set state = $1, updated_at = $2 where effect = $3 and state = $4";
    sqlx::query(state)
        .bind(ShipmentState::Cancelled.as_str())
        .bind(Timestamp::now().to_string())
        .bind(shipment.to_string())
        .bind(ShipmentState::Booked.as_str())
        .execute(&mut *connection)
        .await?;
    let dispatched: bool =
        sqlx::query_scalar("select exists (select 1 from shipment where effect = $1 and state = 'dispatched')")
            .bind(shipment.to_string())
            .fetch_one(connection)
            .await?;
    Ok(if dispatched {
        Err(Dispatched { shipment })
    } else {
        Ok(())
    })
}

/// The carrier has come for an order's goods; once gone, they are gone.
pub(crate) async fn dispatch(connection: &mut SqliteConnection, order: &OrderId) -> Result<(), sqlx::Error> {
    sqlx::query("update shipment set state = $1, updated_at = $2 where order_id = $3 and state = $4")
        .bind(ShipmentState::Dispatched.as_str())
        .bind(Timestamp::now().to_string())
        .bind(order.as_str())
        .bind(ShipmentState::Booked.as_str())
        .execute(connection)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use sagamill_service_kit::open_sqlite;
    use shop_contracts::ShippingBooks;

    use super::*;
    use crate::books::Books;

    struct Dock {
        pool: SqlitePool,
        _directory: tempfile::TempDir,
    }

    impl Dock {
        async fn open() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let pool = open_sqlite(&directory.path().join("shipping.db")).await.unwrap();
            migrate(&pool).await.unwrap();
            Self {
                pool,
                _directory: directory,
            }
        }
        async fn book(&self, delivery: Delivery) -> Answer<Booked, CarrierDown> {
            let mut connection = self.pool.acquire().await.unwrap();
            book(&mut connection, Uuid::now_v7(), &OrderId::numbered(1), delivery)
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
            cancel(&mut self.pool.acquire().await.unwrap(), shipment).await.unwrap()
        }
        async fn states(&self) -> Vec<ShipmentState> {
            let book = Books(self.pool.clone()).book().await.unwrap();
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
        dispatch(&mut dock.pool.acquire().await.unwrap(), &OrderId::numbered(1))
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
        migrate(&dock.pool).await.unwrap();
        assert!(matches!(dock.book(Delivery::Freight).await, Done(_)));
    }
}

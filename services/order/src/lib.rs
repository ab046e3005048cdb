//! The order service: it takes orders over HTTP and hosts the saga that fulfils them.
//!
//! `place_order.rs` is the saga, `basket.rs` what can be an order, `desk.rs` the tables, `http.rs` the edge, `ledger/` the
//! check that money and stock are conserved.

mod basket;
mod desk;
mod http;
mod ledger;
mod place_order;
mod progress;
mod status;

use std::{fmt, path::Path, sync::Arc};

use axum::Router;
use basket::Basket;
use sagamill::{
    bus::{BoxError, Bus},
    eventstore::{EventStore, Position, Relay},
    prelude::{Coordinator, Sagas},
};
use sagamill_service_kit::{Check, Intake, open_sqlite};
use shop_contracts::{InventoryBooks, OrderId, PaymentBooks, ShippingBooks};
use sqlx::Sqlite;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub use crate::{
    basket::{CUSTOMER_MAX, ITEMS_MAX},
    desk::{OrderRow, OrderStatus, Placed},
    ledger::{Discrepancy, Ledger, LedgerError, MoneyLedger, OrderCounts, StockLedger},
    place_order::{Fulfilment, PLACE_ORDER, place_order},
    progress::StepView,
    status::Following,
};

/// Orders that are being taken at once; one more is told to come back.
const PLACING_MAX: usize = 512;
/// What can go wrong with the service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The idempotency key came with another order before.
    #[error("the idempotency key `{key}` came with another order before")]
    KeyReused {
        /// The key.
        key: String,
    },
    /// Too many orders are being taken at once.
    #[error("{PLACING_MAX} orders are being taken already; try again")]
    Busy,
    /// Its database failed.
    #[error("the order database failed")]
    Database(#[from] sqlx::Error),
    /// Its log failed.
    #[error("the order log failed")]
    Log(#[from] sagamill::eventstore::Error),
    /// Its sagas failed.
    #[error("the order sagas failed")]
    Saga(#[from] sagamill::Error),
    /// An event of a saga cannot be read.
    #[error("an event of a saga cannot be read")]
    Unreadable(#[source] BoxError),
}

/// How the other services answer for their databases.
#[derive(Debug, Clone)]
pub struct Books {
    /// Inventory.
    pub inventory: Arc<dyn InventoryBooks>,
    /// Payment, and its provider.
    pub payment: Arc<dyn PaymentBooks>,
    /// Shipping.
    pub shipping: Arc<dyn ShippingBooks>,
}

/// The service over its own database. Cheap to clone.
#[derive(Clone)]
pub struct Orders {
    store: EventStore<Sqlite>,
    bus: Bus,
    coordinator: Coordinator<Sqlite>,
    sagas: Sagas<Fulfilment, Sqlite>,
    books: Books,
    placing: Arc<Semaphore>,
    /// The last of the sagas' events that the orders' status knows.
    status: watch::Sender<Position>,
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders")
            .field("books", &self.books)
            .finish_non_exhaustive()
    }
}

impl Orders {
    /// Opens its database, made where it is missing.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Log`], [`Error::Saga`].
    pub async fn open(file: &Path, bus: Bus, books: Books) -> Result<Self, Error> {
        let pool = open_sqlite(file).await?;
        desk::migrate(&pool).await?;
        let store = EventStore::open(pool).await?;
        let coordinator = Coordinator::new(&store).bus(bus.clone()).with_state(store.clone());
        let sagas = coordinator.register(place_order())?;
        let placing = Arc::new(Semaphore::new(PLACING_MAX));
        let status = watch::Sender::new(desk::last_status(store.pool()).await?);
        Ok(Self {
            store,
            bus,
            coordinator,
            sagas,
            books,
            placing,
            status,
        })
    }
    /// Its HTTP routes.
    pub fn routes(&self, intake: Intake) -> Router {
        http::routes(self.clone(), intake)
    }
    /// Whether its database answers.
    pub fn check(&self) -> Check {
        Check::database(self.store.pool())
    }
    /// Runs the sagas, publishes what they ask for, keeps the orders' status, until `stop`.
    ///
    /// # Errors
    /// What must stop it, not what can be tried again.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let coordinator = self.coordinator.clone();
        let sagas = async { Ok(coordinator.run(stop.clone().cancelled_owned()).await?) };
        let requests = async {
            Ok(Relay::new(&self.store, &self.bus)
                .run(stop.clone().cancelled_owned())
                .await?)
        };
        let ended = tokio::try_join!(sagas, requests, self.keep_status(stop.clone())).map(drop);
        self.store.close().await;
        ended
    }
    /// How many sagas run.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn in_flight(&self) -> Result<u64, Error> {
        Ok(desk::in_flight(self.store.pool()).await?)
    }
    /// Whether money and stock are conserved.
    ///
    /// # Errors
    /// [`LedgerError`]: somebody does not answer.
    pub async fn ledger(&self) -> Result<Ledger, LedgerError> {
        let Books {
            inventory,
            payment,
            shipping,
        } = &self.books;
        ledger::ledger(self.store.pool(), &**inventory, &**payment, &**shipping).await
    }
    async fn place(&self, key: Option<&str>, basket: Basket) -> Result<Placed, Error> {
        let _place = self.placing.try_acquire().map_err(|_| Error::Busy)?;
        desk::place(&self.store, &self.sagas, key, basket).await
    }
    async fn find(&self, id: &OrderId) -> Result<Option<(Placed, OrderRow)>, Error> {
        let Some(number) = id.number() else { return Ok(None) };
        Ok(desk::find(&mut *self.store.pool().acquire().await?, number).await?)
    }
    async fn list(&self, before: i64, status: Option<OrderStatus>, limit: u32) -> Result<Vec<OrderRow>, Error> {
        Ok(desk::list(self.store.pool(), before, status, limit).await?)
    }
    async fn steps(&self, id: &OrderId) -> Result<Vec<StepView>, Error> {
        let history = progress::history(&self.store, id.as_str(), None).await?;
        Ok(history
            .map(|history| history.steps.into_iter().map(StepView::from).collect())
            .unwrap_or_default())
    }
    fn books(&self) -> &Books {
        &self.books
    }
}

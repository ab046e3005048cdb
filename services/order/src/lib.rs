//! The order service: it takes orders over HTTP and hosts the saga that fulfils them.
//!
//! `place_order.rs` is the saga, `basket.rs` what can be an order, `desk.rs` the tables, `http.rs` the edge, `ledger/` the
//! check that money and stock are conserved, `remote.rs` the way to the others' books where they are other processes.

mod basket;
mod desk;
mod http;
mod ledger;
mod place_order;
mod progress;
mod remote;
mod status;

use std::{fmt, sync::Arc};

use axum::Router;
use basket::Basket;
use sagamill::{
    bus::{BoxError, Bus},
    eventstore::{EventStore, Position},
    prelude::{Coordinator, Sagas},
};
use sagamill_service_kit::{Check, Intake};
use shop_contracts::{Book, OrderId, PaymentBook, ShippingBook, StockBook, StockLevel};
use shop_frame::{Db, Location, Running, Service};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub use crate::{
    basket::{CUSTOMER_MAX, ITEMS_MAX},
    desk::{OrderRow, OrderStatus, Placed},
    ledger::{Discrepancy, Ledger, LedgerError, MoneyLedger, OrderCounts, StockLedger},
    place_order::{Fulfilment, PLACE_ORDER, place_order},
    progress::StepView,
    remote::Others,
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
    /// How much there is of each article.
    pub stock: Arc<dyn Book<Vec<StockLevel>>>,
    /// Inventory.
    pub inventory: Arc<dyn Book<StockBook>>,
    /// Payment, and its provider.
    pub payment: Arc<dyn Book<PaymentBook>>,
    /// Shipping.
    pub shipping: Arc<dyn Book<ShippingBook>>,
}

/// The service over its own database. Cheap to clone.
pub struct Orders<D: Db> {
    store: EventStore<D>,
    coordinator: Coordinator<D>,
    sagas: Sagas<Fulfilment, D>,
    books: Books,
    placing: Arc<Semaphore>,
    /// Whether it takes orders.
    open: bool,
    /// The last of the sagas' events that the orders' status knows.
    status: watch::Sender<Position>,
}

impl<D: Db> Clone for Orders<D> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            coordinator: self.coordinator.clone(),
            sagas: self.sagas.clone(),
            books: self.books.clone(),
            placing: self.placing.clone(),
            open: self.open,
            status: self.status.clone(),
        }
    }
}
impl<D: Db> fmt::Debug for Orders<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders")
            .field("books", &self.books)
            .finish_non_exhaustive()
    }
}

impl<D: Db> Orders<D> {
    /// Opens its database, with its tables made where they are missing.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Log`], [`Error::Saga`].
    pub async fn open(database: &Location, bus: Bus, books: Books) -> Result<Self, Error> {
        let store = EventStore::open(shop_frame::open(database, &desk::TABLES).await?).await?;
        let coordinator = Coordinator::new(&store).bus(bus).with_state(store.clone());
        let sagas = coordinator.register(place_order::<D>())?;
        let placing = Arc::new(Semaphore::new(PLACING_MAX));
        let status = watch::Sender::new(desk::last_status(store.pool()).await?);
        Ok(Self {
            store,
            coordinator,
            sagas,
            books,
            placing,
            open: true,
            status,
        })
    }
    /// Takes no orders: one more process for the sagas of those that others take.
    #[must_use]
    pub fn sagas_only(self) -> Self {
        Self { open: false, ..self }
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
        ledger::ledger(self.store.pool(), &self.books).await
    }
    async fn place(&self, key: Option<&str>, basket: Basket) -> Result<Placed, Error> {
        let _place = self.placing.try_acquire().map_err(|_| Error::Busy)?;
        desk::place(&self.store, &self.sagas, key, &basket).await
    }
    async fn find(&self, id: &OrderId) -> Result<Option<(Placed, OrderRow)>, Error> {
        let Some(number) = id.number() else { return Ok(None) };
        let mut connection = self.store.pool().acquire().await?;
        Ok(desk::find(&mut D::sql(&mut connection), number).await?)
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

impl<D: Db> Service for Orders<D> {
    fn check(&self) -> Check {
        Check::database(self.store.pool())
    }
    /// `/catalog`, `/orders`, `/ledger`; none where it takes no orders.
    fn routes(&self, intake: Intake) -> Router {
        if self.open {
            http::routes(self.clone(), intake)
        } else {
            Router::new()
        }
    }
    /// Runs the sagas, publishes what they ask for, keeps the orders' status.
    fn run(self: Box<Self>, stop: CancellationToken) -> Running {
        Box::pin(async move {
            let sagas = self.coordinator.clone().run(stop.clone().cancelled_owned());
            let ended = tokio::try_join!(async { sagas.await.map_err(Error::from) }, self.keep_status(stop));
            self.store.close().await;
            ended?;
            Ok(())
        })
    }
}

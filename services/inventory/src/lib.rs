//! The inventory service: it sets stock aside for orders, and gives it back.
//!
//! `stock.rs` is the domain, `handler.rs` the way in from the bus, `books.rs` how it answers for its database.

mod books;
mod handler;
mod stock;

use std::sync::Arc;

use axum::Router;
use sagamill::{bus::Bus, eventstore::EventStore, prelude::Participant};
use sagamill_service_kit::{Check, Intake};
use shop_contracts::{Book, StockBook, StockLevel};
use shop_frame::{Db, Location, Running, Service, page};
use tokio_util::sync::CancellationToken;

use crate::books::Books;

/// What can go wrong with the service as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its database cannot be opened or migrated.
    #[error("the inventory database failed")]
    Database(#[from] sqlx::Error),
    /// Its log cannot be opened.
    #[error("the inventory log failed")]
    Log(#[from] sagamill::eventstore::Error),
    /// Its participant stopped.
    #[error("the inventory participant failed")]
    Participant(#[from] sagamill::Error),
}

/// The service over its own database.
#[derive(Debug)]
pub struct Inventory<D: Db> {
    store: EventStore<D>,
    bus: Bus,
}

impl<D: Db> Inventory<D> {
    /// Opens its database, with its tables made and its shelves filled where they are missing.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Log`].
    pub async fn open(database: &Location, bus: Bus) -> Result<Self, Error> {
        let store = EventStore::open(stock::open(database).await?).await?;
        Ok(Self { store, bus })
    }
    /// Stock and reservations, at one moment.
    pub fn book(&self) -> Arc<dyn Book<StockBook>> {
        Arc::new(Books(self.store.pool().clone()))
    }
    /// How much there is of each article.
    pub fn stock(&self) -> Arc<dyn Book<Vec<StockLevel>>> {
        Arc::new(Books(self.store.pool().clone()))
    }
}

impl<D: Db> Service for Inventory<D> {
    fn check(&self) -> Check {
        Check::database(self.store.pool())
    }
    /// `GET /book`, `GET /stock`.
    fn routes(&self, _: Intake) -> Router {
        Router::new()
            .route("/book", page(self.book()))
            .route("/stock", page(self.stock()))
    }
    /// Takes commands from the bus and publishes replies.
    fn run(self: Box<Self>, stop: CancellationToken) -> Running {
        let participant = Participant::new(&self.store)
            .on(handler::reserve_stock::<D>)
            .undo(handler::release_stock::<D>)
            .with_state(());
        Box::pin(async move {
            let ended = participant.run(&self.bus, stop.cancelled_owned()).await;
            self.store.close().await;
            Ok(ended.map_err(Error::from)?)
        })
    }
}

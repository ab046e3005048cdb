//! The shipping service: it books carriers for orders, cancels them, and sends confirmed orders on their way.
//!
//! `shipment.rs` is the domain, `handler.rs` the way in from the bus, `books.rs` how it answers for its database.

mod books;
mod handler;
mod shipment;

use std::sync::Arc;

use axum::Router;
use sagamill::{
    bus::{self, Bus},
    eventstore::EventStore,
    prelude::Participant,
};
use sagamill_service_kit::{Check, Intake};
use shop_contracts::{Book, ShippingBook};
use shop_frame::{Db, Location, Running, Service, page};
use tokio_util::sync::CancellationToken;

use crate::books::Books;

/// What can go wrong with the service as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its database cannot be opened or migrated.
    #[error("the shipping database failed")]
    Database(#[from] sqlx::Error),
    /// Its log cannot be opened.
    #[error("the shipping log failed")]
    Log(#[from] sagamill::eventstore::Error),
    /// Its participant stopped.
    #[error("the shipping participant failed")]
    Participant(#[from] sagamill::Error),
    /// Its subscription to orders stopped.
    #[error("the shipping subscription failed")]
    Bus(#[from] bus::Error),
}

/// The service over its own database.
#[derive(Debug)]
pub struct Shipping<D: Db> {
    store: EventStore<D>,
    bus: Bus,
}

impl<D: Db> Shipping<D> {
    /// Opens its database, with its tables made where they are missing.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Log`].
    pub async fn open(database: &Location, bus: Bus) -> Result<Self, Error> {
        let store = EventStore::open(shop_frame::open(database, &shipment::TABLES).await?).await?;
        Ok(Self { store, bus })
    }
    /// All shipments.
    pub fn book(&self) -> Arc<dyn Book<ShippingBook>> {
        Arc::new(Books(self.store.pool().clone()))
    }
}

impl<D: Db> Service for Shipping<D> {
    fn check(&self) -> Check {
        Check::database(self.store.pool())
    }
    /// `GET /book`.
    fn routes(&self, _: Intake) -> Router {
        Router::new().route("/book", page(self.book()))
    }
    /// Takes commands and confirmed orders from the bus and publishes replies.
    fn run(self: Box<Self>, stop: CancellationToken) -> Running {
        let participant = Participant::new(&self.store)
            .on(handler::book_shipment::<D>)
            .undo(handler::cancel_shipment::<D>)
            .with_state(());
        let dispatch = bus::Router::new()
            .on(handler::dispatch_goods::<D>)
            .with_state(self.store.clone());
        Box::pin(async move {
            let commands = participant.run(&self.bus, stop.clone().cancelled_owned());
            let orders = dispatch.run(self.bus.group("shipping"), stop.clone().cancelled_owned());
            let ended = tokio::try_join!(async { commands.await.map_err(Error::from) }, async {
                orders.await.map_err(Error::from)
            },);
            self.store.close().await;
            ended?;
            Ok(())
        })
    }
}

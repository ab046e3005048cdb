//! The payment service: it has money held, captured and given back by a provider, whose effects are outside of any
//! transaction here.
//!
//! `provider.rs` is the fake provider, `desk.rs` the way to it, `handler.rs` the way in from the bus.

mod books;
mod desk;
mod handler;
mod provider;

use std::sync::Arc;

use axum::Router;
use sagamill::{bus::Bus, eventstore::EventStore, prelude::Participant};
use sagamill_service_kit::{Check, Intake};
use shop_contracts::{Book, PaymentBook};
use shop_frame::{Db, Location, Running, Service, page};
use tokio_util::sync::CancellationToken;

pub use crate::provider::{LIMIT, Provider, ProviderError};
use crate::{books::Books, desk::Desk};

/// What can go wrong with the service as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its database, or its provider's, cannot be opened or migrated.
    #[error("the payment database failed")]
    Database(#[from] sqlx::Error),
    /// Its log cannot be opened.
    #[error("the payment log failed")]
    Log(#[from] sagamill::eventstore::Error),
    /// Its participant stopped.
    #[error("the payment participant failed")]
    Participant(#[from] sagamill::Error),
}

/// The service over its own database.
#[derive(Debug)]
pub struct Payment<D: Db> {
    desk: Desk<D>,
    bus: Bus,
}

impl<D: Db> Payment<D> {
    /// Opens its database, with its tables made where they are missing, with a provider to ask.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Log`].
    pub async fn open(database: &Location, bus: Bus, provider: Provider<D>) -> Result<Self, Error> {
        let store = EventStore::open(shop_frame::open(database, &desk::TABLES).await?).await?;
        let desk = Desk { store, provider };
        Ok(Self { desk, bus })
    }
    /// Payments, and the provider's ledger, the second read after the first.
    pub fn book(&self) -> Arc<dyn Book<PaymentBook>> {
        Arc::new(Books(self.desk.clone()))
    }
}

impl<D: Db> Service for Payment<D> {
    fn check(&self) -> Check {
        Check::database(self.desk.store.pool())
    }
    /// `GET /book`.
    fn routes(&self, _: Intake) -> Router {
        Router::new().route("/book", page(self.book()))
    }
    /// Takes commands from the bus and publishes replies.
    fn run(self: Box<Self>, stop: CancellationToken) -> Running {
        let participant = Participant::new(&self.desk.store)
            .on(handler::authorize::<D>)
            .undo(handler::void::<D>)
            .on(handler::capture::<D>)
            .with_state(self.desk.clone());
        Box::pin(async move {
            let ended = participant.run(&self.bus, stop.cancelled_owned()).await;
            self.desk.store.close().await;
            Ok(ended.map_err(Error::from)?)
        })
    }
}

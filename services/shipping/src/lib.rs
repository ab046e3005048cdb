//! The shipping service: it books carriers for orders, cancels them, and sends confirmed orders on their way.
//!
//! `shipment.rs` is the domain, `handler.rs` the way in from the bus, `books.rs` how it answers for its database.

mod books;
mod handler;
mod shipment;

use std::{path::Path, sync::Arc};

use axum::{Json, Router, extract::State, routing::get};
use sagamill::{
    bus::{self, Bus},
    eventstore::{EventStore, Relay},
    prelude::Participant,
};
use sagamill_service_kit::{Check, Problem, open_sqlite};
use shop_contracts::{ShippingBook, ShippingBooks};
use sqlx::Sqlite;
use tokio_util::sync::CancellationToken;

use crate::books::Books;

/// What can go wrong with the service as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its database cannot be opened or migrated.
    #[error("the shipping database failed")]
    Database(#[from] sqlx::Error),
    /// Its log cannot be opened, or its relay stopped.
    #[error("the shipping log failed")]
    Log(#[from] sagamill::eventstore::Error),
    /// Its participant stopped.
    #[error("the shipping participant failed")]
    Participant(#[from] sagamill::Error),
    /// Its subscription to orders stopped.
    #[error("the shipping subscription failed")]
    Bus(#[from] bus::Error),
}

/// The service over its own database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shipping {
    store: EventStore<Sqlite>,
}

impl Shipping {
    /// Opens its database, made where it is missing.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Log`].
    pub async fn open(file: &Path) -> Result<Self, Error> {
        let pool = open_sqlite(file).await?;
        shipment::migrate(&pool).await?;
        let store = EventStore::open(pool).await?;
        Ok(Self { store })
    }
    /// How it answers for its database.
    pub fn books(&self) -> Arc<dyn ShippingBooks> {
        Arc::new(Books(self.store.pool().clone()))
    }
    /// Whether its database answers.
    pub fn check(&self) -> Check {
        Check::database(self.store.pool())
    }
    /// Its own HTTP routes: `GET /book`.
    pub fn routes(&self) -> Router {
        Router::new().route("/book", get(book)).with_state(self.books())
    }
    /// Takes commands and confirmed orders from the bus and publishes replies, until `stop`.
    ///
    /// # Errors
    /// What must stop it, not what can be tried again.
    pub async fn run(self, bus: Bus, stop: CancellationToken) -> Result<(), Error> {
        let participant = Participant::new(&self.store)
            .on(handler::book_shipment)
            .undo(handler::cancel_shipment);
        let dispatch = bus::Router::new()
            .on(handler::dispatch_goods)
            .with_state(self.store.clone());
        let commands = async {
            Ok(participant
                .with_state(())
                .run(&bus, stop.clone().cancelled_owned())
                .await?)
        };
        let orders = async {
            Ok(dispatch
                .run(bus.group("shipping"), stop.clone().cancelled_owned())
                .await?)
        };
        let replies = async {
            Ok(Relay::new(&self.store, &bus)
                .run(stop.clone().cancelled_owned())
                .await?)
        };
        let ended = tokio::try_join!(commands, orders, replies).map(drop);
        self.store.close().await;
        ended
    }
}

async fn book(State(books): State<Arc<dyn ShippingBooks>>) -> Result<Json<ShippingBook>, Problem> {
    books
        .book()
        .await
        .map(Json)
        .map_err(|error| Problem::unavailable(&error))
}

//! The inventory service: it sets stock aside for orders, and gives it back.
//!
//! `stock.rs` is the domain, `handler.rs` the way in from the bus, `books.rs` how it answers for its database.

mod books;
mod handler;
mod stock;

use std::{path::Path, sync::Arc};

use axum::{Json, Router, extract::State, routing::get};
use sagamill::{
    bus::Bus,
    eventstore::{EventStore, Relay},
    prelude::Participant,
};
use sagamill_service_kit::{Check, Problem, open_sqlite};
use shop_contracts::{InventoryBooks, StockBook};
use sqlx::Sqlite;
use tokio_util::sync::CancellationToken;

use crate::books::Books;

/// What can go wrong with the service as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its database cannot be opened or migrated.
    #[error("the inventory database failed")]
    Database(#[from] sqlx::Error),
    /// Its log cannot be opened, or its relay stopped.
    #[error("the inventory log failed")]
    Log(#[from] sagamill::eventstore::Error),
    /// Its participant stopped.
    #[error("the inventory participant failed")]
    Participant(#[from] sagamill::Error),
}

/// The service over its own database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inventory {
    store: EventStore<Sqlite>,
}

impl Inventory {
    /// Opens its database, made and filled where it is missing.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Log`].
    pub async fn open(file: &Path) -> Result<Self, Error> {
        let pool = open_sqlite(file).await?;
        stock::migrate(&pool).await?;
        let store = EventStore::open(pool).await?;
        Ok(Self { store })
    }
    /// How it answers for its database.
    pub fn books(&self) -> Arc<dyn InventoryBooks> {
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
    /// Takes commands from the bus and publishes replies, until `stop`.
    ///
    /// # Errors
    /// [`Error::Participant`], [`Error::Log`]: what must stop it, not what can be tried again.
    pub async fn run(self, bus: Bus, stop: CancellationToken) -> Result<(), Error> {
        let participant = Participant::new(&self.store)
            .on(handler::reserve_stock)
            .undo(handler::release_stock);
        let commands = async {
            Ok(participant
                .with_state(())
                .run(&bus, stop.clone().cancelled_owned())
                .await?)
        };
        let replies = async {
            Ok(Relay::new(&self.store, &bus)
                .run(stop.clone().cancelled_owned())
                .await?)
        };
        let ended = tokio::try_join!(commands, replies).map(drop);
        self.store.close().await;
        ended
    }
}

async fn book(State(books): State<Arc<dyn InventoryBooks>>) -> Result<Json<StockBook>, Problem> {
    books
        .book()
        .await
        .map(Json)
        .map_err(|error| Problem::unavailable(&error))
}

//! The payment service: it has money held, captured and given back by a provider, whose effects are outside of any
//! transaction here.
//!
//! `provider.rs` is the fake provider, `desk.rs` the way to it, `handler.rs` the way in from the bus.

mod books;
mod desk;
mod handler;
mod provider;

use std::{path::Path, sync::Arc};

use axum::{Json, Router, extract::State, routing::get};
use sagamill::{
    bus::Bus,
    eventstore::{EventStore, Relay},
    prelude::Participant,
};
use sagamill_service_kit::{Check, Problem, open_sqlite};
use shop_contracts::{PaymentBook, PaymentBooks};
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
    /// Its log cannot be opened, or its relay stopped.
    #[error("the payment log failed")]
    Log(#[from] sagamill::eventstore::Error),
    /// Its participant stopped.
    #[error("the payment participant failed")]
    Participant(#[from] sagamill::Error),
}

/// The service over its own database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Payment {
    desk: Desk,
}

impl Payment {
    /// Opens its database, made where it is missing, with a provider to ask.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Log`].
    pub async fn open(file: &Path, provider: Provider) -> Result<Self, Error> {
        let pool = open_sqlite(file).await?;
        desk::migrate(&pool).await?;
        let store = EventStore::open(pool).await?;
        Ok(Self {
            desk: Desk { store, provider },
        })
    }
    /// How it answers for its database.
    pub fn books(&self) -> Arc<dyn PaymentBooks> {
        Arc::new(Books(self.desk.clone()))
    }
    /// Whether its database answers.
    pub fn check(&self) -> Check {
        Check::database(self.desk.store.pool())
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
        let store = self.desk.store.clone();
        let participant = Participant::new(&store)
            .on(handler::authorize)
            .undo(handler::void)
            .on(handler::capture);
        let participant = participant.with_state(self.desk.clone());
        let commands = async { Ok(participant.run(&bus, stop.clone().cancelled_owned()).await?) };
        let replies = async { Ok(Relay::new(&store, &bus).run(stop.clone().cancelled_owned()).await?) };
        let ended = tokio::try_join!(commands, replies).map(drop);
        store.close().await;
        ended
    }
}

async fn book(State(books): State<Arc<dyn PaymentBooks>>) -> Result<Json<PaymentBook>, Problem> {
    books
        .book()
        .await
        .map(Json)
        .map_err(|error| Problem::unavailable(&error))
}

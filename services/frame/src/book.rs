//! How a service's books are read from another process.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    routing::{MethodRouter, get},
};
use sagamill_service_kit::Problem;
use serde::Serialize;
use shop_contracts::Book;

/// Answers `GET` with a page of a service's books.
pub fn page<P: Serialize + Send + 'static>(book: Arc<dyn Book<P>>) -> MethodRouter {
    get(read::<P>).with_state(book)
}

async fn read<P: Serialize>(State(book): State<Arc<dyn Book<P>>>) -> Result<Json<P>, Problem> {
    book.read()
        .await
        .map(Json)
        .map_err(|error| Problem::unavailable(&error))
}

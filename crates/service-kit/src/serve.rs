//! The HTTP side of a process: its routes, those that every process has, and a stop that lets requests end.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use crate::{Health, Metrics, Problem, Shutdown};

/// How long a request may take before it is cut off.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests that are being answered are waited for at the end.
const DRAIN: Duration = Duration::from_secs(10);

/// What every process answers beside its own routes.
#[derive(Debug, Clone)]
pub struct Frontdoor {
    /// `/livez`, `/readyz`.
    pub health: Health,
    /// `/metrics`.
    pub metrics: Metrics,
}

impl Frontdoor {
    /// A service's routes with these beside them: unknown paths, wrong methods, panics and slow answers are problems too.
    pub fn around(self, routes: Router) -> Router {
        routes
            .merge(self.health.routes())
            .merge(Router::new().route("/metrics", get(metrics)).with_state(self.metrics))
            .fallback(|| async { Problem::of(StatusCode::NOT_FOUND) })
            .method_not_allowed_fallback(|| async { Problem::of(StatusCode::METHOD_NOT_ALLOWED) })
            .layer(TimeoutLayer::with_status_code(
                StatusCode::GATEWAY_TIMEOUT,
                REQUEST_TIMEOUT,
            ))
            .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
                tracing::error!("a request panicked");
                Problem::of(StatusCode::INTERNAL_SERVER_ERROR).into_response()
            }))
            .layer(axum::middleware::map_response(harden))
    }
}

async fn metrics(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render())
}

async fn harden(mut response: axum::response::Response) -> axum::response::Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Serves until the shutdown begins; then takes no new connections and waits for the requests that are being answered, but
/// not for ever.
///
/// # Errors
/// What the listener says.
pub async fn serve(listener: TcpListener, routes: Router, shutdown: &Shutdown) -> std::io::Result<()> {
    let serving = axum::serve(listener, routes).with_graceful_shutdown(shutdown.requested());
    let patience = async {
        shutdown.requested().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => served,
        () = patience => Ok(()),
    }
}

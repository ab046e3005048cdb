//! `/livez` and `/readyz`.

use std::{collections::BTreeMap, fmt, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use sqlx::Connection as _;
use tokio_util::sync::CancellationToken;

/// How long one check may take before it counts as failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

type Checking = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// One thing that must work before requests are welcome.
#[derive(Clone)]
pub struct Check(Arc<dyn Fn() -> Checking + Send + Sync>);

impl Check {
    /// Ready when the future is `Ok`; the error is shown to whoever asks.
    pub fn new<F, Fut>(check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(check())))
    }
    /// Ready when the database answers.
    pub fn database<D: sqlx::Database>(pool: &sqlx::Pool<D>) -> Self {
        let pool = pool.clone();
        Self::new(move || {
            let pool = pool.clone();
            async move {
                let answered = async { pool.acquire().await?.ping().await };
                answered.await.map_err(|error: sqlx::Error| error.to_string())
            }
        })
    }
    async fn run(&self) -> Result<(), String> {
        let checked = tokio::time::timeout(CHECK_TIMEOUT, (self.0)()).await;
        checked.unwrap_or_else(|_| Err(format!("no answer within {} s", CHECK_TIMEOUT.as_secs())))
    }
}
impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check")
    }
}

/// Whether this process lives, and whether it is ready. A dependency that is down makes it not ready, never dead.
#[derive(Debug, Clone)]
pub struct Health {
    draining: CancellationToken,
    checks: BTreeMap<&'static str, Check>,
}

impl Health {
    /// Not ready any more as soon as `draining` is cancelled.
    pub fn new(draining: CancellationToken) -> Self {
        Self {
            draining,
            checks: BTreeMap::new(),
        }
    }
    /// Adds a check under a name.
    #[must_use]
    pub fn check(mut self, name: &'static str, check: Check) -> Self {
        self.checks.insert(name, check);
        self
    }
    /// The two routes.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .with_state(Arc::new(self))
    }
}

/// Answered by the event loop itself: whoever gets an answer has its proof.
async fn livez() -> &'static str {
    "ok"
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    let mut failed = BTreeMap::new();
    if health.draining.is_cancelled() {
        failed.insert("process", "is draining".to_owned());
    }
    for (name, check) in &health.checks {
        if let Err(why) = check.run().await {
            failed.insert(name, why);
        }
    }
    let status = if failed.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({ "ready": failed.is_empty(), "failed": failed }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(health: Health) -> (u16, u16, serde_json::Value) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, health.routes()).await });
        let live = reqwest::get(format!("{url}/livez")).await.unwrap().status();
        let ready = reqwest::get(format!("{url}/readyz")).await.unwrap();
        let answer = (live.as_u16(), ready.status().as_u16(), ready.json().await.unwrap());
        server.abort();
        answer
    }

    #[tokio::test]
    async fn process_that_drains_is_alive_and_not_ready() {
        let draining = CancellationToken::new();
        draining.cancel();
        let (live, ready, why) = ask(Health::new(draining)).await;
        assert_eq!((live, ready), (200, 503));
        assert_eq!(why, json!({ "ready": false, "failed": { "process": "is draining" } }));
    }

    #[tokio::test]
    async fn dependency_that_is_down_makes_it_not_ready() {
        let check = Check::new(|| async { Err("no route to host".to_owned()) });
        let (live, ready, why) = ask(Health::new(CancellationToken::new()).check("bus", check)).await;
        assert_eq!((live, ready), (200, 503));
        assert_eq!(why["failed"]["bus"], "no route to host");
    }
}

//! How request bodies come in: bounded in size and time, JSON, and every refusal a problem.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRef, FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio_util::task::TaskTracker;

use crate::Problem;

/// The largest request body.
pub const BODY_LIMIT: usize = 2 * 1024 * 1024;
/// How long a body may take to come in.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a body that is refused, so much is still read and thrown away: a client that writes while the connection is closed
/// under it would see a reset in place of the refusal.
const DISCARD_LIMIT: usize = 16 * 1024 * 1024;
/// And only for so long.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// The limits of bodies, and the owner of what lingers after a refusal.
#[derive(Debug, Clone)]
pub struct Intake {
    limit: usize,
    lingering: TaskTracker,
}

impl Intake {
    /// Bodies of at most [`BODY_LIMIT`] bytes.
    pub fn new(lingering: TaskTracker) -> Self {
        Self {
            limit: BODY_LIMIT,
            lingering,
        }
    }

    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > self.limit as u64) {
            self.lingering.spawn(discard(body));
            return Err(self.too_large());
        }
        match tokio::time::timeout(BODY_TIMEOUT, self.collect(body)).await {
            Ok(bytes) => bytes,
            Err(_) => Err(Problem::of(StatusCode::REQUEST_TIMEOUT)),
        }
    }

    async fn collect(&self, body: Body) -> Result<Bytes, Problem> {
        let mut stream = body.into_data_stream();
        let mut read = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| Problem::of(StatusCode::BAD_REQUEST).detail("the body ended early"))?;
            if read.len() + chunk.len() > self.limit {
                self.lingering.spawn(discard(Body::from_stream(stream)));
                return Err(self.too_large());
            }
            read.extend_from_slice(&chunk);
        }
        Ok(read.into())
    }

    fn too_large(&self) -> Problem {
        Problem::named(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "Body too large")
            .detail(format!("a body is at most {} bytes", self.limit))
            .with("limit", self.limit)
    }
}

async fn discard(body: Body) {
    let mut stream = body.into_data_stream();
    let reading = async {
        let mut read = 0;
        while let Some(Ok(chunk)) = stream.next().await {
            read += chunk.len();
            if read > DISCARD_LIMIT {
                break;
            }
        }
    };
    // A client that is slower than this loses nothing but the reason.
    tokio::time::timeout(DISCARD_TIMEOUT, reading).await.ok();
}

/// A body as JSON, within the limits of the state's [`Intake`]; every refusal is a [`Problem`].
#[derive(Debug, Clone, Copy)]
pub struct ApiJson<T>(pub T);

impl<S, T> FromRequest<S> for ApiJson<T>
where
    S: Send + Sync,
    Intake: FromRef<S>,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = Intake::from_ref(state).read(&parts.headers, body).await?;
        if !is_json(&parts.headers) {
            return Err(
                Problem::named(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "Unsupported media type")
                    .detail("the body must be application/json"),
            );
        }
        parse(&bytes).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else {
        return false;
    };
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(
            Problem::named(StatusCode::BAD_REQUEST, "not-utf-8", "Body is not UTF-8")
                .detail(format!("invalid UTF-8 at byte {}", error.valid_up_to())),
        );
    }
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => Problem::named(StatusCode::UNPROCESSABLE_ENTITY, "invalid-content", "Invalid content")
            .detail(error.to_string()),
        Category::Syntax | Category::Eof | Category::Io => {
            Problem::named(StatusCode::BAD_REQUEST, "malformed-json", "Malformed JSON").detail(error.to_string())
        }
    })
}

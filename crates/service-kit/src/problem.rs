//! Errors over HTTP: RFC 9457, `application/problem+json`.

use std::{borrow::Cow, fmt};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

/// An error as a client sees it. What only concerns us (a source, a path, a query) goes to the log, never in here.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: Cow<'static, str>,
    title: Cow<'static, str>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl Problem {
    /// A problem with a name of its own, which clients may match on: `urn:sagamill:problem:<name>`.
    pub fn named(status: StatusCode, name: &str, title: &'static str) -> Self {
        Self {
            kind: format!("urn:sagamill:problem:{name}").into(),
            title: title.into(),
            status: status.as_u16(),
            detail: None,
            more: Map::new(),
        }
    }
    /// A problem that its status says enough about.
    pub fn of(status: StatusCode) -> Self {
        Self {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("Unknown").into(),
            status: status.as_u16(),
            detail: None,
            more: Map::new(),
        }
    }
    /// Something failed here that the client can do nothing about; the reason is logged.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %Chain(error), "a request failed");
        Self::of(StatusCode::INTERNAL_SERVER_ERROR)
    }
    /// Something this service needs does not answer; the reason is logged.
    pub fn unavailable(error: &dyn std::error::Error) -> Self {
        tracing::warn!(error = %Chain(error), "a request found something unavailable");
        Self::of(StatusCode::SERVICE_UNAVAILABLE)
    }
    /// What is wrong in this very case.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..self
        }
    }
    /// A member of one's own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }
    /// Its HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// An error with all its sources, on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_the_standard_come_first() {
        let problem = Problem::named(StatusCode::UNPROCESSABLE_ENTITY, "unknown-sku", "Unknown SKU")
            .detail("there is no `x`")
            .with("sku", "x");
        assert_eq!(
            serde_json::to_string(&problem).unwrap(),
            r#"{"type":"urn:sagamill:problem:unknown-sku","title":"Unknown SKU","status":422,"detail":"there is no `x`","sku":"x"}"#
        );
    }
}

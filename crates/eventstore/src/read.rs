//! Readings: of a stream, or of the whole log, in pages.

use std::{marker::PhantomData, pin::Pin, task};

use bytes::Bytes;
use futures_core::Stream;
use jiff::Timestamp;

use crate::{Position, Recorded, Result};

/// A reading of a stream or of the log; a `Stream` of recorded events, fetched in pages. It ends where the log ended when
/// its last page was read: it does not wait for more.
#[must_use = "a reading does nothing until it is polled"]
#[derive(Debug)]
pub struct Read<E = Bytes>(PhantomData<fn() -> E>);

impl<E> Read<E> {
    /// From the newest to the oldest.
    pub fn backward(self) -> Self {
        self
    }
    /// Only this category.
    pub fn category(self, _category: impl Into<String>) -> Self {
        self
    }
    /// Only these types.
    pub fn types<T: Into<String>>(self, _names: impl IntoIterator<Item = T>) -> Self {
        self
    }
    /// Only what is at this position of the log or after it.
    pub fn from(self, _position: Position) -> Self {
        self
    }
    /// Only what is at this position of the log or before it.
    pub fn to(self, _position: Position) -> Self {
        self
    }
    /// Only what was appended at this time or later.
    pub fn since(self, _time: Timestamp) -> Self {
        self
    }
    /// At most so many.
    pub fn limit(self, _events: usize) -> Self {
        self
    }
    /// How many events are fetched at once; 1,000 by default.
    pub fn page(self, _events: usize) -> Self {
        self
    }
    /// The next event.
    pub async fn next(&mut self) -> Option<Result<Recorded<E>>> {
        todo!()
    }
}

impl<E> Stream for Read<E> {
    type Item = Result<Recorded<E>>;
    fn poll_next(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> task::Poll<Option<Self::Item>> {
        todo!()
    }
}

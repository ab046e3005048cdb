//! Readings: of a stream, or of the whole log, in pages.

use std::{collections::VecDeque, future::poll_fn, pin::Pin, sync::Arc, task, vec};

use bytes::Bytes;
use futures_core::{Stream, future::BoxFuture};
use jiff::Timestamp;

use crate::{
    Error, Event, Position, Recorded, Result,
    backend::{Backend, Page, Query},
};

/// Most pages that are asked for before they are needed: a reading of the whole log keeps two threads of the store busy.
const AHEAD: usize = 2;

/// A reading of a stream or of the log; a `Stream` of recorded events, fetched in pages, one ahead, of the whole log two.
/// It ends where the log ended when its last page was read: it does not wait for more. An error ends it.
#[must_use = "a reading does nothing until it is polled"]
pub struct Read<E = Bytes> {
    backend: Arc<dyn Backend>,
    decode: fn(Recorded) -> Result<Recorded<E>>,
    query: Query,
    from: Position,
    to: Position,
    since: Option<Timestamp>,
    page: usize,
    /// How many more may be handed out.
    left: usize,
    events: vec::IntoIter<Recorded>,
    /// The first page has been asked for.
    begun: bool,
    /// The next pages, asked for while the events at hand are taken.
    asked: VecDeque<Asked>,
}

/// A page that has been asked for.
struct Asked {
    limit: usize,
    answer: Answer,
}

enum Answer {
    Awaited(BoxFuture<'static, Fetched>),
    Come(Box<Fetched>),
}

/// A page, and what it answers.
type Fetched = Result<(Page, Query)>;

impl Asked {
    fn poll(&mut self, cx: &mut task::Context<'_>) -> task::Poll<()> {
        if let Answer::Awaited(page) = &mut self.answer {
            let fetched = task::ready!(page.as_mut().poll(cx));
            self.answer = Answer::Come(Box::new(fetched));
        }
        task::Poll::Ready(())
    }
}

impl<E> std::fmt::Debug for Read<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Read")
            .field("query", &self.query)
            .finish_non_exhaustive()
    }
}

impl Read {
    pub(crate) fn new(backend: Arc<dyn Backend>, query: Query) -> Self {
        Self::with(backend, query, Ok)
    }
}

impl<E: Event> Read<E> {
    pub(crate) fn typed(backend: Arc<dyn Backend>, query: Query) -> Self {
        Self::with(backend, query, decode)
    }
}

impl<E> Read<E> {
    fn with(backend: Arc<dyn Backend>, query: Query, decode: fn(Recorded) -> Result<Recorded<E>>) -> Self {
        let (from, to, page, left) = (Position(1), Position(i64::MAX), query.limit, usize::MAX);
        let events = Vec::new().into_iter();
        Self {
            backend,
            decode,
            query,
            from,
            to,
            since: None,
            page,
            left,
            events,
            begun: false,
            asked: VecDeque::new(),
        }
    }
    /// From the newest to the oldest.
    pub fn backward(mut self) -> Self {
        self.query.backward = true;
        self
    }
    /// Only this category.
    pub fn category(mut self, category: impl Into<String>) -> Self {
        self.query.category = Some(category.into());
        self
    }
    /// Only these types.
    pub fn types<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.query.names = names.into_iter().map(Into::into).collect();
        self
    }
    /// Only what has a topic.
    pub fn published(mut self) -> Self {
        self.query.published = true;
        self
    }
    /// Only what is at this position of the log or after it.
    pub fn from(mut self, position: Position) -> Self {
        self.from = position.max(Position(1));
        self
    }
    /// Only what is at this position of the log or before it.
    pub fn to(mut self, position: Position) -> Self {
        self.to = position;
        self
    }
    /// Only what was appended at this time or later.
    pub fn since(mut self, time: Timestamp) -> Self {
        self.since = Some(time);
        self
    }
    /// At most so many.
    pub fn limit(mut self, events: usize) -> Self {
        self.left = events;
        self
    }
    /// How many events are fetched at once; 1,000 by default, at least 1.
    pub fn page(mut self, events: usize) -> Self {
        self.page = events.max(1);
        self
    }
    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Recorded<E>>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Asks for the first page, which finds out where to begin.
    fn begin(&mut self) {
        let mut query = self.query.clone();
        query.limit = self.page.min(self.left);
        let (backend, since, mut from, to) = (self.backend.clone(), self.since, self.from, self.to);
        let limit = query.limit;
        let page = Box::pin(async move {
            backend.sequenced().await;
            if let Some(time) = since {
                from = from.max(backend.since(time).await?);
            }
            query.begin(from, to);
            Ok((backend.read(query.clone()).await?, query))
        });
        self.asked.push_back(Asked {
            limit,
            answer: Answer::Awaited(page),
        });
    }
    /// Asks for the next pages at once, so that they are there when they are needed.
    fn ask(&mut self, cx: &mut task::Context<'_>) {
        let mut left = self.left - self.events.len();
        left = left.saturating_sub(self.asked.iter().map(|page| page.limit).sum());
        let most = if self.query.is_whole_log() { AHEAD } else { 1 };
        while self.asked.len() < most && left > 0 {
            let (backend, mut query) = (self.backend.clone(), self.query.clone());
            query.limit = self.page.min(left);
            left -= query.limit;
            self.query.after = query.end_if_full();
            let limit = query.limit;
            let page = async move { Ok((backend.read(query.clone()).await?, query)) };
            let mut asked = Asked {
                limit,
                answer: Answer::Awaited(Box::pin(page)),
            };
            // It is begun by being asked for the first time.
            let _ = asked.poll(cx);
            self.asked.push_back(asked);
        }
    }
    /// Turns to a page.
    fn turn(&mut self, fetched: Fetched, cx: &mut task::Context<'_>) -> Result<()> {
        let (page, query) = fetched?;
        self.events = page.events.into_iter();
        if page.end {
            self.asked.clear();
            return Ok(());
        }
        if self.asked.is_empty() || query.end_if_full() != Some(page.scanned) {
            // The pages that follow begin elsewhere than was thought.
            self.asked.clear();
            self.query = Query {
                after: Some(page.scanned),
                ..query
            };
        }
        self.ask(cx);
        Ok(())
    }
}

impl Query {
    /// Whether a page holds every event of its range, so that it is known where the next one begins before it is there.
    fn is_whole_log(&self) -> bool {
        !self.backward && self.stream.is_none() && self.category.is_none() && self.names.is_empty() && !self.published
    }
    /// Where a page ends that has as many events as it may; none where only the page can tell.
    fn end_if_full(&self) -> Option<i64> {
        let after = self.after.filter(|_| self.is_whole_log())?;
        after.checked_add(i64::try_from(self.limit).ok()?)
    }
    /// A range of positions is where a reading of the log begins and ends; of a stream it is one filter more.
    fn begin(&mut self, from: Position, to: Position) {
        if self.stream.is_some() {
            let all = (Position(1), Position(i64::MAX));
            self.positions = Some((from, to)).filter(|range| *range != all);
        } else if self.backward {
            self.after = (to.0 < i64::MAX).then(|| to.0 + 1);
            self.until = Some(from.0);
        } else {
            self.after = Some(from.0 - 1);
            self.until = Some(to.0);
        }
    }
}

impl<E> Stream for Read<E> {
    type Item = Result<Recorded<E>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> task::Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.left == 0 {
                return task::Poll::Ready(None);
            }
            if let Some(event) = this.events.next() {
                this.left -= 1;
                let event = (this.decode)(event);
                this.left = if event.is_err() { 0 } else { this.left };
                return task::Poll::Ready(Some(event));
            }
            if !std::mem::replace(&mut this.begun, true) {
                this.begin();
            }
            let Some(next) = this.asked.front_mut() else {
                return task::Poll::Ready(None);
            };
            task::ready!(next.poll(cx));
            let Some(Asked {
                answer: Answer::Come(fetched),
                ..
            }) = this.asked.pop_front()
            else {
                unreachable!("invariant: what is ready has come")
            };
            if let Err(error) = this.turn(*fetched, cx) {
                this.left = 0;
                return task::Poll::Ready(Some(Err(error)));
            }
        }
    }
}

/// The typed event of a recorded one.
fn decode<E: Event>(recorded: Recorded) -> Result<Recorded<E>> {
    let codec = |name: &str, source: Box<dyn std::error::Error + Send + Sync>| Error::Codec {
        name: name.to_owned(),
        source: source.into(),
    };
    let event = match sagamill_bus::codec::decode::<E>(&recorded.name, &recorded.event) {
        Some(event) => event.map_err(|e| codec(&recorded.name, e.into()))?,
        None => return Err(codec(&recorded.name, format!("it is not of `{}`", E::NAME).into())),
    };
    let Recorded {
        position,
        stream,
        version,
        at,
        id,
        name,
        schema,
        topic,
        key,
        correlation,
        causation,
        headers,
        ..
    } = recorded;
    Ok(Recorded {
        position,
        stream,
        version,
        at,
        id,
        name,
        schema,
        topic,
        key,
        correlation,
        causation,
        headers,
        event,
    })
}

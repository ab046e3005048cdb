//! The log's newest events, read once for all who follow it in this process.
//!
//! Every feed is woken by every commit. Whoever comes first reads what is new, as the log has it and without a filter; the
//! others wait for that and are handed theirs from memory.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicI64, Ordering},
};

use super::{read, readers::Readers};
use crate::{
    Anchor, Position, Result,
    backend::{Page, Query},
    tail::Tail,
};

/// Most events that are read at a time.
const PAGE: usize = 500;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct News {
    head: AtomicI64,
    tail: Mutex<Tail>,
    /// Whoever has it reads.
    turn: tokio::sync::Mutex<()>,
}

impl News {
    /// The log has come to this position: grown, or as one that has lost its end.
    pub(super) fn told(&self, head: Position) {
        self.head.store(head.0, Ordering::Release);
        self.tail().has_come_to(head);
    }

    /// The log may have another history by now: somebody has gained a shard, maybe at a place that an operator has put it
    /// at, or the database was away. What is in memory is compared with the log before it is handed out.
    pub(super) fn doubt(&self) {
        self.tail().fall_behind();
    }

    /// A page of the log.
    pub(super) async fn read(&self, readers: &Readers, query: Query) -> Result<Page> {
        let Some(at) = query.anchored else {
            return fetch(readers, &query).await;
        };
        if let Some(page) = self.at_hand(readers, &query, at).await? {
            return Ok(page);
        }
        let told = self.tail().told();
        let page = fetch(readers, &query).await?;
        let end = if page.scanned > at.position.0 { page.anchor } else { at };
        if page.end && query.until.is_none() && page.before == at.event {
            self.tail().follow(end, told);
        }
        Ok(page)
    }

    /// The page of a follower who is where the newest events are.
    async fn at_hand(&self, readers: &Readers, query: &Query, at: Anchor) -> Result<Option<Page>> {
        let page = self.tail().settled_page(query);
        let Some(from) = self.tail().read_on(at).filter(|_| page.is_none()) else {
            return Ok(page);
        };
        // Who wants little of much finds it sooner by himself.
        let new = self.head.load(Ordering::Acquire) - from.position.0;
        if new > PAGE as i64 && query.is_filtered() {
            return Ok(None);
        }
        let _turn = self.turn.lock().await;
        // It may have been read while this one waited.
        let page = self.tail().settled_page(query);
        let told = self.tail().told();
        let Some(from) = self.tail().read_on(at).filter(|_| page.is_none()) else {
            return Ok(page);
        };
        let news = Query {
            after: Some(from.position.0),
            anchored: Some(from),
            limit: PAGE,
            ..Query::default()
        };
        let news = fetch(readers, &news).await?;
        let mut tail = self.tail();
        tail.extend(from, news, told);
        Ok(tail.page(query))
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        // Every change leaves it whole.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(readers: &Readers, query: &Query) -> Result<Page> {
    readers.run(|connection| read::page(connection, query)).await
}

//! The log's newest events, read once for all who follow it in this process.
//!
//! Every feed is woken by every commit. Whoever comes first reads what is new, as the log has it and without a filter; the
//! others wait for that and are handed theirs from memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

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
    tail: Mutex<Tail>,
    /// Whoever has it reads.
    turn: tokio::sync::Mutex<()>,
}

impl News {
    /// The log has come to this position: grown, or as one that has lost its end.
    pub(super) fn has_come_to(&self, head: Position) {
        self.tail().has_come_to(head);
    }

    /// The log may have another history by now: somebody has gained a shard, maybe at a place that an operator has put it
    /// at, or the database was away. What is in memory is compared with the log before it is handed out.
    pub(super) fn doubt(&self) {
        self.tail().fall_behind();
    }

    /// A page of the log, which is known to have come to `head`.
    pub(super) async fn read(&self, readers: &Readers, head: Position, query: Query) -> Result<Page> {
        let Some(at) = query.anchored else {
            return fetch(readers, &query).await;
        };
        if let Some(page) = self.at_hand(readers, head, &query, at).await? {
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
    async fn at_hand(&self, readers: &Readers, head: Position, query: &Query, at: Anchor) -> Result<Option<Page>> {
        let (page, news) = self.look(query, at);
        let Some((from, _)) = news else { return Ok(page) };
        // Who wants little of much finds it sooner by himself.
        if head.0 - from.position.0 > PAGE as i64 && query.is_filtered() {
            return Ok(None);
        }
        let _turn = self.turn.lock().await;
        // It may have been read while this one waited.
        let (page, news) = self.look(query, at);
        let Some((from, told)) = news else { return Ok(page) };
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
    /// What is in memory for a follower; else the event to read on from for it, where there is one, and what was told by now.
    fn look(&self, query: &Query, at: Anchor) -> (Option<Page>, Option<(Anchor, u64)>) {
        let tail = self.tail();
        match tail.settled_page(query) {
            Some(page) => (Some(page), None),
            None => (None, tail.read_on(at).map(|from| (from, tail.told()))),
        }
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        // Every change leaves it whole.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(readers: &Readers, query: &Query) -> Result<Page> {
    readers.run(|connection| read::page(connection, query)).await
}

//! Reads the log once for all shards of a feed, page by page, and waits for more where it ends.

use std::{sync::Arc, time::Duration};

use xxhash_rust::xxh3::xxh3_64;

use super::{Pauses, ShardBy, Subscription, divergence, shared::Shared};
use crate::{
    Anchor, Recorded, Result,
    backend::{Backend, Page, Query},
    bell::Listener,
};

/// Events in a page.
const PAGE: usize = 500;
/// The longest pause while the database does not answer, and the least one, whatever is heard of it.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_LEAST: Duration = Duration::from_millis(100);

pub(super) struct Reader {
    backend: Arc<dyn Backend>,
    shared: Arc<Shared>,
    name: String,
    filter: Query,
    shards: u16,
    by: ShardBy,
    pause: Duration,
}

impl Reader {
    pub(super) fn new(of: &Subscription, shared: Arc<Shared>) -> Self {
        Self {
            backend: of.backend.clone(),
            shared,
            name: of.name.clone(),
            filter: Query {
                limit: PAGE.min(of.max_in_flight.max(16)),
                ..of.filter.clone()
            },
            shards: of.shards,
            by: of.by,
            pause: of.pause,
        }
    }

    /// Reads until it is dropped. Cancel-safe: a page counts when it has been taken in, which nothing interrupts.
    pub(super) async fn run(self) {
        let mut wake = self.backend.wake();
        let mut pauses = Pauses::default();
        loop {
            // Before the log is looked at: what is appended from here on wakes.
            wake.forget();
            // A log in memory answers at once: others in this thread must have their turn.
            tokio::task::consume_budget().await;
            let Some(from) = self.shared.lock().cursor() else {
                self.shared.room.notified().await;
                continue;
            };
            match self.page(from).await {
                Ok(page) => {
                    pauses.reset();
                    if self.shared.fill(from, page, |event| self.place(event)) {
                        if !self.pause.is_zero() {
                            tokio::time::sleep(self.pause).await;
                        }
                        self.wait(&mut wake).await;
                    }
                }
                Err(error) if !error.is_retryable() => return self.shared.end(error),
                Err(error) => {
                    let pause = pauses.next(PAUSE);
                    tracing::warn!(subscription = %self.name, %error, ?pause, "the log cannot be read; trying again");
                    self.rest(pause, &mut wake).await;
                }
            }
        }
    }

    /// Until it is worth another try: after the pause, or when the log is heard of again.
    async fn rest(&self, pause: Duration, wake: &mut Listener) {
        tokio::time::sleep(pause.min(PAUSE_LEAST)).await;
        tokio::select! {
            biased;
            () = wake.rung() => (),
            () = tokio::time::sleep(pause.saturating_sub(PAUSE_LEAST)) => (),
        }
    }

    /// What comes after `from`, if that is still in the log: a server may have been replaced by one that knows less, and has
    /// grown since.
    async fn page(&self, from: Anchor) -> Result<Page> {
        let query = Query {
            after: Some(from.position.0),
            anchored: Some(from),
            ..self.filter.clone()
        };
        loop {
            let page = self.backend.read(query.clone()).await?;
            if page.follows(from) {
                return Ok(page);
            }
            let shard = self.shared.lock().first();
            divergence::check(&*self.backend, &self.name, shard, from).await?;
        }
    }

    /// Until there may be more: an append, a shard gained, room for one that had none.
    async fn wait(&self, wake: &mut Listener) {
        tokio::select! {
            biased;
            () = self.shared.room.notified() => (),
            () = wake.rung() => (),
        }
    }

    fn place(&self, event: &Recorded) -> u16 {
        let key = match self.by {
            ShardBy::Stream => event.stream.as_str(),
            ShardBy::Key => event.key.as_deref().unwrap_or(event.stream.as_str()),
        };
        place(key, self.shards)
    }
}

/// The shard of a key. It must never change: checkpoints are kept by it.
pub(crate) fn place(key: &str, shards: u16) -> u16 {
    (xxh3_64(key.as_bytes()) % u64::from(shards)) as u16
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn shard_of_a_key_never_changes() {
        let places: Vec<u16> = ["order-1", "order-2", "payment-1", ""]
            .iter()
            .map(|key| place(key, 64))
            .collect();
        insta::assert_debug_snapshot!(places);
    }
}

//! An open subscription.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::{sync::Notify, task::JoinHandle};

use super::{
    Progress, Signal, Subscription,
    keeper::Keeper,
    reader::Reader,
    shared::{Shared, Taken},
};
use crate::{Error, Result, bell::Listener};

/// An open subscription. Dropped without [`close`](Feed::close), its leases run out by themselves.
pub struct Feed {
    progress: Progress,
    head: Listener,
    stop: Arc<Notify>,
    task: Option<JoinHandle<Keeper>>,
}

impl Feed {
    /// Takes what shards there are before it answers, so that a log that diverged is told to the caller.
    pub(super) async fn open(of: Subscription) -> Result<Self> {
        let shared = Arc::new(Shared::new(of.max_in_flight, of.asks));
        let progress = Progress {
            backend: of.backend.clone(),
            shared: shared.clone(),
            name: of.name.as_str().into(),
            shards: of.shards,
        };
        let head = of.backend.wake();
        let reader = Reader::new(&of, shared.clone());
        let mut keeper = Keeper::new(of, shared).await?;
        if let Err(error) = keeper.look().await {
            keeper.leave().await;
            return Err(error);
        }
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        // One task for both: the feed that owns it is the only one to stop it.
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = keeper.run(&stopped) => (),
                () = async { reader.run().await; std::future::pending().await } => (),
            }
            keeper
        });
        Ok(Self {
            progress,
            head,
            stop,
            task: Some(task),
        })
    }
    /// The next signal. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::LogDiverged`] ends it, and so does [`Error::ShutDown`] when the store is closed. An unavailable database
    /// does not: it waits and says so in the log.
    pub async fn next(&mut self) -> Result<Signal> {
        loop {
            match self.progress.shared.take() {
                Taken::Signal(signal) => return Ok(signal),
                Taken::End(error) => return Err(error),
                Taken::Nothing => self.progress.shared.ready.notified().await,
            }
        }
    }
    /// The handle by which events are marked done, from any task.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }
    /// The log's clock.
    pub fn now(&self) -> Timestamp {
        self.progress.backend.now()
    }
    /// How far the log goes beyond what is done in this process's shards, as far as this process knows.
    pub(crate) fn lag(&self) -> i64 {
        let Some(low) = self.progress.shared.lock().lowest() else {
            return 0;
        };
        let head = self.head.last();
        (head.0 - low.0).max(0)
    }
    /// Saves the checkpoints and gives the leases back, so that another process takes over at once.
    ///
    /// # Errors
    /// What the database says; the leases then run out by themselves.
    pub async fn close(mut self) -> Result<()> {
        self.stop.notify_one();
        let Some(task) = self.task.take() else { return Ok(()) };
        match task.await {
            Ok(keeper) => keeper.close().await,
            Err(failed) => Err(Error::database(failed)),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("subscription", &self.progress.name)
            .finish_non_exhaustive()
    }
}

//! Keeps a feed's shards: claims its fair share, prolongs the leases, saves the checkpoints, gives shards back.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{From, Pauses, Subscription, divergence, shared::Shared};
use crate::{
    Anchor, Error, Lease, Result,
    backend::{Backend, Claim, Claimed},
    bell::Listener,
    metric_definitions::{CHECKPOINTS_SAVED, LEASES_LOST, SUBSCRIPTION_LAG},
};

/// Who has less than all shards looks for more at least so often.
const LOOK: Duration = Duration::from_secs(1);
/// And who has less than its fair share, for half a lease after somebody came or went: others see that at a third of it, and
/// give some up soon after.
const LOOK_SOON: Duration = Duration::from_millis(250);

pub(super) struct Keeper {
    backend: Arc<dyn Backend>,
    shared: Arc<Shared>,
    name: String,
    shards: u16,
    /// New for each open feed, so that a fence that a lost tail brought back is never taken for its own.
    owner: Uuid,
    ttl: Duration,
    hand_over: Duration,
    /// How many worked on the subscription at the last look, and since when.
    live: usize,
    since: Instant,
    start: Anchor,
    head: Listener,
    pauses: Pauses,
}

impl Keeper {
    pub(super) async fn new(of: Subscription, shared: Arc<Shared>) -> Result<Self> {
        let start = match of.start {
            From::Beginning => Anchor::default(),
            From::Now => of.backend.head().await?,
            From::After(position) => Anchor {
                position,
                event: of.backend.event_at(position).await?,
            },
        };
        if start.position.0 != 0 && start.event.is_none() {
            let what = format!(
                "`{}` cannot begin after position {}: the log has no event there",
                of.name, start.position
            );
            return Err(Error::Invalid { what });
        }
        let (owner, head, pauses) = (of.backend.new_owner(), of.backend.wake(), Pauses::default());
        let Subscription {
            backend,
            name,
            shards,
            ttl,
            hand_over,
            ..
        } = of;
        Ok(Self {
            backend,
            shared,
            name,
            shards,
            owner,
            ttl,
            hand_over,
            live: 1,
            since: Instant::now(),
            start,
            head,
            pauses,
        })
    }

    /// Works until it is told to stop, or the log diverged. It stops between calls to the database, never in one.
    pub(super) async fn run(&mut self, stop: &Notify) {
        let mut look_at = Instant::now() + self.interval();
        loop {
            let (save_at, leave_at) = self.shared.lock().dues();
            tokio::select! {
                biased;
                () = stop.notified() => return,
                () = sleep_until(look_at) => {
                    if let Err(error) = self.look().await {
                        self.fail(error);
                    }
                    look_at = Instant::now() + self.interval();
                    // In case a wake-up was lost on its way, in another process's bell say.
                    self.shared.room.notify_one();
                }
                () = sleep_until(save_at.unwrap_or(look_at)), if save_at.is_some() => self.save_or_wait().await,
                () = sleep_until(leave_at.unwrap_or(look_at)), if leave_at.is_some() => (),
                () = self.shared.work.notified() => (),
            }
            if self.shared.lock().has_ended() {
                self.testify().await;
                self.shared.tell();
                return self.leave().await;
            }
            self.surrender().await;
        }
    }

    fn interval(&self) -> Duration {
        let (all, kept) = (usize::from(self.shards), self.shared.lock().kept());
        let look = match kept {
            kept if kept == all => self.ttl,
            kept if self.since.elapsed() < self.ttl / 2 && kept < all.div_ceil(self.live) => LOOK_SOON,
            _ => LOOK,
        };
        look.min(self.ttl / 3)
    }

    /// Prolongs what it holds, and moves towards its fair share of the shards.
    pub(super) async fn look(&mut self) -> Result<()> {
        let trusted_until = self.trusted_until();
        let live = self
            .backend
            .join(&self.name, self.owner, None, self.ttl)
            .await?
            .len()
            .max(1);
        let leases = self.shared.lock().leases();
        if !leases.is_empty() {
            let kept = self.backend.renew(&leases, self.ttl).await?;
            self.count_lost(self.shared.renewed(&leases, &kept, trusted_until));
        }
        self.check_continuity().await?;
        if self.shared.lock().stay() {
            self.shared.room.notify_one();
            self.shared.changed.notify_one();
        }
        if live != self.live {
            (self.live, self.since) = (live, Instant::now());
        }
        let (fair, kept) = (usize::from(self.shards).div_ceil(live), self.shared.lock().kept());
        if kept > fair {
            let mut shared = self.shared.lock();
            // What its user does not begin meanwhile must not wait for long.
            let grace = if shared.asks() { self.ttl / 3 } else { self.ttl };
            shared.leave(kept - fair, Instant::now() + grace.min(self.hand_over));
            drop(shared);
            self.shared.changed.notify_one();
        } else if kept < fair {
            self.claim((fair - kept) as u16).await?;
        }
        Ok(())
    }

    /// Until when a lease that is asked for now may be worked under: counted from before the asking, on this process's own
    /// clock, with a third to spare for a clock that runs differently and for what is on its way out.
    fn trusted_until(&self) -> Instant {
        Instant::now() + self.ttl * 2 / 3
    }

    async fn claim(&mut self, most: u16) -> Result<()> {
        let ask = Claim {
            name: self.name.clone(),
            shards: self.shards,
            owner: self.owner,
            ttl: self.ttl,
            start: self.start,
            most,
        };
        let trusted_until = self.trusted_until();
        let mut claimed = self.backend.claim(&ask).await?;
        claimed.sort_by_key(|claimed| claimed.lease.shard);
        if let Err(error) = self.check_claimed(&claimed).await {
            let leases: Vec<_> = claimed.into_iter().map(|claimed| claimed.lease).collect();
            self.give_back(&leases).await;
            return Err(error);
        }
        for one in claimed {
            tracing::debug!(subscription = %self.name, shard = one.lease.shard, fence = one.lease.fence, from = %one.checkpoint.position, "shard gained");
            self.shared.gain(one, trusted_until);
        }
        Ok(())
    }

    async fn check_claimed(&self, claimed: &[Claimed]) -> Result<()> {
        let mut known = None;
        for one in claimed {
            // The shards of a subscription stand at the same place for the most part.
            if known != Some(one.checkpoint) {
                divergence::check(&*self.backend, &self.name, one.lease.shard, one.checkpoint).await?;
                known = Some(one.checkpoint);
            }
        }
        // The server that gave them may know less than the one that was asked before.
        if claimed.is_empty() {
            Ok(())
        } else {
            self.check_continuity().await
        }
    }
    /// A server may have been replaced by one that knows less, under a feed that is open.
    async fn check_continuity(&self) -> Result<()> {
        let (read, shard) = {
            let shared = self.shared.lock();
            (shared.farthest(), shared.first())
        };
        match read {
            Some(read) => divergence::check(&*self.backend, &self.name, shard, read).await,
            None => Ok(()),
        }
    }
    /// Where the log went another way, its checkpoints went with it. What was done beyond them is written down, so that
    /// whoever opens the subscription next is told too, until an operator has decided.
    async fn testify(&self) {
        let standings = {
            let shared = self.shared.lock();
            if shared.has_diverged() {
                shared.standings()
            } else {
                Vec::new()
            }
        };
        if standings.is_empty() {
            return;
        }
        match self.backend.save(&standings).await {
            Ok(lost) if lost.is_empty() => (),
            Ok(lost) => {
                tracing::warn!(subscription = %self.name, lost = lost.len(), "shards are not this process's in this history: what it has done of them is not known to the next owner");
            }
            Err(error) => {
                tracing::warn!(subscription = %self.name, %error, "it cannot be written down how far was read of a history that is gone");
            }
        }
    }

    fn fail(&self, error: Error) {
        if error.is_retryable() {
            tracing::warn!(subscription = %self.name, %error, "leases cannot be prolonged; trying again");
        } else {
            tracing::error!(subscription = %self.name, %error, "subscription stopped");
            self.shared.end(error);
        }
    }

    async fn save_or_wait(&mut self) {
        match self.save().await {
            Ok(()) => self.pauses.reset(),
            Err(error) => {
                let until = self.pauses.until(Duration::from_secs(5));
                tracing::warn!(subscription = %self.name, %error, "checkpoints cannot be saved; trying again");
                self.shared.lock().save_again(until);
            }
        }
    }

    /// Saves all checkpoints that moved, in one commit. A shard whose save is refused belongs to another.
    async fn save(&self) -> Result<()> {
        let moves = self.shared.lock().moves();
        if moves.is_empty() {
            return Ok(());
        }
        fail::fail_point!("checkpoint.save.before");
        let lost = self.backend.save(&moves).await?;
        fail::fail_point!("checkpoint.save.after");
        self.shared.lock().saved(&moves);
        self.shared.changed.notify_one();
        lost.iter().for_each(|lease| self.shared.lose(lease));
        self.count_lost(lost.len());
        let saved = (moves.len() - lost.len()) as u64;
        metrics::counter!(CHECKPOINTS_SAVED, "subscription" => self.name.clone()).increment(saved);
        self.measure();
        Ok(())
    }

    fn measure(&self) {
        if let Some(low) = self.shared.lock().lowest() {
            let head = self.head.last();
            metrics::gauge!(SUBSCRIPTION_LAG, "subscription" => self.name.clone()).set((head.0 - low.0).max(0) as f64);
        }
    }

    fn count_lost(&self, lost: usize) {
        if lost > 0 {
            tracing::warn!(subscription = %self.name, lost, "shards were taken over by another process");
            metrics::counter!(LEASES_LOST, "subscription" => self.name.clone()).increment(lost as u64);
        }
    }

    /// Gives the shards to others that are ready to go.
    async fn surrender(&mut self) {
        let free = self.shared.lock().free();
        if free.is_empty() {
            return;
        }
        self.save_or_wait().await;
        // Nothing more is worked on under them, and only then they are given back.
        free.iter().for_each(|lease| self.shared.lose(lease));
        self.give_back(&free).await;
    }

    async fn give_back(&self, leases: &[Lease]) {
        if let Err(error) = self.backend.release(leases).await {
            tracing::warn!(subscription = %self.name, %error, "leases cannot be given back; they run out by themselves");
        }
    }

    /// Takes its name off the list of those who work on the subscription, and gives back what it holds.
    pub(super) async fn leave(&self) {
        let leases = self.shared.lock().leases();
        self.give_back(&leases).await;
        leases.iter().for_each(|lease| self.shared.lose(lease));
        if let Err(error) = self.backend.leave(&self.name, self.owner).await {
            tracing::warn!(subscription = %self.name, %error, "the subscription cannot be left; others wait for its lease");
        }
    }

    /// Saves, and gives all back.
    pub(super) async fn close(self) -> Result<()> {
        let ended = self.shared.lock().has_ended();
        let saved = if ended {
            self.testify().await;
            Ok(())
        } else {
            self.save().await
        };
        let leases = self.shared.lock().leases();
        self.backend.release(&leases).await?;
        self.backend.leave(&self.name, self.owner).await?;
        saved
    }
}

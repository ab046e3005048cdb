//! What the sagas' own events say of the orders: their status, and whoever follows them.

use std::{pin::Pin, time::Duration};

use sagamill::{
    bus::BoxError,
    eventstore::{Position, Recorded},
    saga::{core::History, wire},
};
use shop_frame::Db;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Error, OrderStatus, Orders, desk, progress};

/// The subscription that keeps the orders' status.
const STATUS: &str = "orders";
/// The saga's events by which an order's status changes.
const STATUS_EVENTS: [&str; 4] = ["saga.completed", "saga.compensated", "saga.parked", "saga.resumed"];
/// How long a follower may take to catch up at the end.
const FOLLOWER_PATIENCE: Duration = Duration::from_secs(2);

/// What is done with a saga that has ended, was parked or goes on.
pub type Following = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

impl<D: Db> Orders<D> {
    /// Waits until no saga runs.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn drained(&self) -> Result<(), Error> {
        // Subscribed before the question, so that a change between the question and the wait is not missed.
        let mut status = self.status.subscribe();
        while self.in_flight().await? > 0 {
            status.changed().await.expect("invariant: this handle holds the sender");
        }
        Ok(())
    }

    /// Calls for each saga that ends, is parked or goes on after that, in order, from where the follower of this name was
    /// when it last ran; after a crash, for some of them again. At the end it catches up first.
    ///
    /// # Errors
    /// [`Error::Log`].
    pub async fn follow<F>(&self, name: &str, follower: F, stop: CancellationToken) -> Result<(), Error>
    where
        F: Fn(History) -> Following + Clone + Send + Sync + 'static,
    {
        let checkpoints = self.store.checkpoints().await?;
        let begun = checkpoints.into_iter().find(|checkpoint| checkpoint.name == name);
        let reached = watch::Sender::new(begun.map_or(Position(0), |checkpoint| checkpoint.at.position));
        let over = CancellationToken::new();
        let until = self.caught_up(stop, reached.subscribe(), over.clone());
        let orders = self.clone();
        let handler = move |recorded: Recorded| -> Following {
            let (orders, follower) = (orders.clone(), follower.clone());
            let (reached, over) = (reached.clone(), over.clone());
            Box::pin(async move {
                let told = over.run_until_cancelled(orders.tell(&recorded, &follower)).await;
                told.ok_or("the follower stops")??;
                reached.send_replace(recorded.position);
                Ok(())
            })
        };
        let ends = self.store.subscribe(name).category(wire::CATEGORY).types(STATUS_EVENTS);
        Ok(ends.run(handler, until).await?)
    }

    /// Tells a follower of one event, not before the order's status knows it: who hears of it may look.
    async fn tell<F>(&self, recorded: &Recorded, follower: &F) -> Result<(), BoxError>
    where
        F: Fn(History) -> Following,
    {
        let Some(order) = progress::order_of(recorded) else {
            return Ok(());
        };
        self.status
            .subscribe()
            .wait_for(|known| *known >= recorded.position)
            .await?;
        match progress::history(&self.store, order.as_str(), Some(recorded.version)).await? {
            Some(history) => follower(history).await,
            None => Ok(()),
        }
    }

    /// Ready when `stop` is, and the follower has seen all that the orders' status says; but a follower that hangs is not
    /// waited for.
    async fn caught_up(
        &self,
        stop: CancellationToken,
        mut reached: watch::Receiver<Position>,
        over: CancellationToken,
    ) {
        stop.cancelled().await;
        if let Ok(last) = desk::last_status(self.store.pool()).await {
            let following = reached.wait_for(|reached| *reached >= last);
            tokio::time::timeout(FOLLOWER_PATIENCE, following).await.ok();
        }
        over.cancel();
    }

    /// Keeps the orders' status, until `stop`.
    pub(crate) async fn keep_status(&self, stop: CancellationToken) -> Result<(), Error> {
        let (store, known) = (self.store.clone(), self.status.clone());
        let handler = move |recorded: Recorded| -> Following {
            let (store, known) = (store.clone(), known.clone());
            Box::pin(async move {
                if let Some(number) = progress::order_of(&recorded).and_then(|order| order.number()) {
                    let status = status_after(&recorded.name);
                    desk::note_status(&store, number, status, recorded.position, recorded.at).await?;
                }
                // An event that comes again, after a restart, says nothing new.
                known.send_if_modified(|known| {
                    let new = recorded.position > *known;
                    *known = recorded.position.max(*known);
                    new
                });
                Ok(())
            })
        };
        let status = self
            .store
            .subscribe(STATUS)
            .category(wire::CATEGORY)
            .types(STATUS_EVENTS);
        Ok(status.run(handler, stop.cancelled_owned()).await?)
    }
}

fn status_after(event: &str) -> OrderStatus {
    match event {
        "saga.completed" => OrderStatus::Completed,
        "saga.compensated" => OrderStatus::Compensated,
        "saga.parked" => OrderStatus::Parked,
        _ => OrderStatus::Pending,
    }
}

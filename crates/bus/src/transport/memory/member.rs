//! A member of a group: its stream of deliveries, and the ticket each of them is settled by.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::{Stream, future::BoxFuture};
use tokio::time::{Instant, Sleep, sleep_until};

use super::group::{Found, Group};
use crate::{Delivery, Result, Settlement, delivery::Settle};

/// Ends the membership when it is dropped.
pub(super) struct Member {
    group: Arc<Group>,
    id: usize,
    /// Runs while the member waits for a delayed message, so that no task of the transport's own is needed.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Member {
    pub(super) fn new(group: Arc<Group>, id: usize) -> Self {
        Self { group, id, timer: None }
    }
    /// Ready when the time has come; registers to be woken else.
    fn poll_timer(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}

impl Stream for Member {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        loop {
            let due = match self.group.poll(self.id, cx) {
                Found::Delivery(delivery) => {
                    coop.made_progress();
                    return Poll::Ready(Some(Ok(delivery)));
                }
                Found::End => return Poll::Ready(None),
                Found::Nothing(due) => due,
            };
            let Some(due) = due else { return Poll::Pending };
            ready!(self.poll_timer(due, cx));
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.group.leave(self.id);
    }
}

/// The right to settle one delivery.
pub(super) struct Ticket {
    group: Arc<Group>,
    slot: usize,
    delivery: u64,
}

impl Ticket {
    pub(super) fn new(group: Arc<Group>, slot: usize, delivery: u64) -> Self {
        Self { group, slot, delivery }
    }
}

impl Settle for Ticket {
    fn settle(self: Box<Self>, settlement: Settlement) -> BoxFuture<'static, Result<()>> {
        Box::pin(std::future::ready(self.group.settle(
            self.slot,
            self.delivery,
            settlement,
        )))
    }
    fn dropped(self: Box<Self>) {
        self.group.dropped(self.slot, self.delivery);
    }
}

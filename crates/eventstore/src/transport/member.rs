//! A member of a group: its stream of deliveries, and the ticket each of them is settled by.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::{Stream, future::BoxFuture};
use sagamill_bus::{Delivery, Result, Settle, Settlement};

use super::{book::Id, group::Group};

/// Ends the membership when it is dropped.
pub(super) struct Member {
    group: Arc<Group>,
    id: u64,
}

impl Member {
    pub(super) fn new(group: Arc<Group>, id: u64) -> Self {
        Self { group, id }
    }
}

impl Stream for Member {
    type Item = Result<Delivery>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let next = self.group.poll(self.id, cx);
        if next.is_ready() {
            coop.made_progress();
        }
        next
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.group.leave(self.id);
    }
}

/// The right to settle one delivery.
pub(super) struct Ticket {
    pub(super) group: Arc<Group>,
    pub(super) id: Id,
    pub(super) delivery: u64,
}

impl Settle for Ticket {
    fn settle(self: Box<Self>, settlement: Settlement) -> BoxFuture<'static, Result<()>> {
        self.group.settle(self.id, self.delivery, settlement)
    }
    fn dropped(self: Box<Self>) {
        self.group.dropped(self.id, self.delivery);
    }
}

//! A member of a group: its stream of deliveries, and the ticket each of them is settled by.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::{Stream, future::BoxFuture};

use super::{Broker, group::Group};
use crate::{Delivery, Result, Settlement, delivery::Settle};

/// Ends the membership when it is dropped.
pub(super) struct Member<B: Broker> {
    pub(super) group: Arc<Group<B>>,
    pub(super) id: u64,
}

impl<B: Broker> Stream for Member<B> {
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

impl<B: Broker> Drop for Member<B> {
    fn drop(&mut self) {
        self.group.leave(self.id);
    }
}

/// The right to settle one delivery.
pub(super) struct Ticket<B: Broker> {
    pub(super) group: Arc<Group<B>>,
    pub(super) id: B::Id,
    pub(super) delivery: u64,
}

impl<B: Broker> Settle for Ticket<B> {
    fn settle(self: Box<Self>, settlement: Settlement) -> BoxFuture<'static, Result<()>> {
        Box::pin(self.group.settle(self.id, self.delivery, settlement))
    }
    fn dropped(self: Box<Self>) {
        self.group.dropped(self.id, self.delivery);
    }
}

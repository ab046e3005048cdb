//! The way in from the bus. Effect, inbox and reply are one transaction.

use sagamill::prelude::{Answer, SagaContext, Tx, Undo};
use shop_contracts::{OutOfStock, ReserveStock, Reserved};
use shop_frame::Db;

use crate::stock;

pub(crate) async fn reserve_stock<D: Db>(
    saga: SagaContext,
    mut tx: Tx<D>,
    command: ReserveStock,
) -> Result<Answer<Reserved, OutOfStock>, sqlx::Error> {
    stock::reserve(&mut D::sql(&mut tx), saga.effect, &command.order, &command.lines).await
}

pub(crate) async fn release_stock<D: Db>(mut tx: Tx<D>, undo: Undo<ReserveStock>) -> Result<(), sqlx::Error> {
    stock::release(&mut D::sql(&mut tx), undo.reply.reservation).await
}

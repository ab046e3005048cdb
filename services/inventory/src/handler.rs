//! The way in from the bus. Effect, inbox and reply are one transaction.

use sagamill::prelude::{Answer, SagaContext, Tx, Undo};
use shop_contracts::{OutOfStock, ReserveStock, Reserved};
use sqlx::Sqlite;

use crate::stock;

pub(crate) async fn reserve_stock(
    saga: SagaContext,
    mut tx: Tx<Sqlite>,
    command: ReserveStock,
) -> Result<Answer<Reserved, OutOfStock>, sqlx::Error> {
    stock::reserve(&mut tx, saga.effect, &command.order, &command.lines).await
}

pub(crate) async fn release_stock(mut tx: Tx<Sqlite>, undo: Undo<ReserveStock>) -> Result<(), sqlx::Error> {
    stock::release(&mut tx, undo.reply.reservation).await
}

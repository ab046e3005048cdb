//! The way in from the bus: commands, whose effect, inbox and reply are one transaction, and an event.

use sagamill::eventstore::EventStore;
use sagamill::prelude::{Answer, HandlerError, SagaContext, State, Tx, Undo};
use shop_contracts::{BookShipment, Booked, CarrierDown, OrderConfirmed};
use shop_frame::Db;

use crate::shipment;

pub(crate) async fn book_shipment<D: Db>(
    saga: SagaContext,
    mut tx: Tx<D>,
    command: BookShipment,
) -> Result<Answer<Booked, CarrierDown>, sqlx::Error> {
    shipment::book(&mut D::sql(&mut tx), saga.effect, &command.order, command.delivery).await
}

pub(crate) async fn cancel_shipment<D: Db>(mut tx: Tx<D>, undo: Undo<BookShipment>) -> Result<(), HandlerError> {
    // Too late is no accident that trying again would mend: the saga is parked, for a person to decide.
    shipment::cancel(&mut D::sql(&mut tx), undo.reply.shipment)
        .await?
        .map_err(HandlerError::permanent)
}

/// Sends confirmed goods on their way. A repeat finds them gone already.
pub(crate) async fn dispatch_goods<D: Db>(
    State(store): State<EventStore<D>>,
    event: OrderConfirmed,
) -> Result<(), HandlerError> {
    let mut tx = store.begin().await?;
    shipment::dispatch(&mut D::sql(&mut tx), &event.order).await?;
    Ok(tx.commit().await?)
}

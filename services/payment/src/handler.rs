//! The way in from the bus. These handlers take no transaction: their effect is the provider's.

use sagamill::prelude::{Answer, HandlerError, SagaContext, State, Undo};
use shop_contracts::{Authorize, Authorized, Capture, CaptureRejected, Captured, Declined};
use shop_frame::Db;

use crate::desk::{Desk, DeskError};

pub(crate) async fn authorize<D: Db>(
    State(desk): State<Desk<D>>,
    saga: SagaContext,
    command: Authorize,
) -> Result<Answer<Authorized, Declined>, HandlerError> {
    let Authorize {
        order,
        customer,
        amount,
    } = command;
    let answer = desk
        .authorize(saga.effect, &order, &customer, amount)
        .await
        .map_err(classify)?;
    Ok(answer.map(|authorization| Authorized { authorization }).into())
}

pub(crate) async fn void<D: Db>(
    State(desk): State<Desk<D>>,
    saga: SagaContext,
    undo: Undo<Authorize>,
) -> Result<(), HandlerError> {
    let Authorize { order, amount, .. } = undo.command;
    desk.void(saga.effect, &order, &undo.reply.authorization, amount)
        .await
        .map_err(classify)
}

pub(crate) async fn capture<D: Db>(
    State(desk): State<Desk<D>>,
    saga: SagaContext,
    command: Capture,
) -> Result<Answer<Captured, CaptureRejected>, HandlerError> {
    let Capture {
        order,
        authorization,
        amount,
    } = command;
    let answer = desk
        .capture(saga.effect, &order, &authorization, amount)
        .await
        .map_err(classify)?;
    Ok(answer
        .map(|amount| Captured { amount })
        .map_err(|reason| CaptureRejected { reason })
        .into())
}

fn classify(error: DeskError) -> HandlerError {
    if error.is_retryable() {
        HandlerError::from(error)
    } else {
        HandlerError::permanent(error)
    }
}

//! What an order's saga has done so far, from its own events.

use sagamill::{
    eventstore::{EventStore, Recorded, Version},
    saga::core::{History, SagaEvent, StepHistory},
};
use serde::Serialize;
use shop_contracts::OrderId;
use shop_frame::Db;

use crate::{Error, PLACE_ORDER};

/// One step, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepView {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub state: &'static str,
    /// How often it was tried.
    pub attempts: usize,
    /// What became of its undo, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo: Option<&'static str>,
}

impl From<StepHistory> for StepView {
    fn from(step: StepHistory) -> Self {
        Self {
            name: step.name,
            state: step.state,
            attempts: step.attempts.len(),
            undo: step.undo.map(|undo| undo.state),
        }
    }
}

/// The stream of an order's saga.
pub(crate) fn stream(order: &str) -> String {
    sagamill::saga::wire::stream(PLACE_ORDER, order)
}

/// The order whose saga's stream this is.
pub(crate) fn order_of(recorded: &Recorded) -> Option<OrderId> {
    let key = recorded.stream.as_str().strip_prefix(&stream(""))?;
    Some(OrderId::from(key))
}

/// The saga's past, up to a version of its stream; none where it has no event.
pub(crate) async fn history<D: Db>(
    store: &EventStore<D>,
    order: &str,
    up_to: Option<Version>,
) -> Result<Option<History>, Error> {
    let mut events = store.read(stream(order));
    let mut history = None;
    while let Some(recorded) = events.next().await {
        let recorded = recorded?;
        if up_to.is_some_and(|version| recorded.version > version) {
            break;
        }
        let entry = SagaEvent::decode(&recorded).map_err(|source| Error::Unreadable(source.into()))?;
        history = Some(History::fold(history, &entry));
    }
    Ok(history)
}

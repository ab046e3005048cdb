//! Routes whose handlers take many messages at once.

use std::sync::Arc;

use futures_util::FutureExt;
use tower::service_fn;

use super::{EventType, Incoming, Route, Router, decode, emit};
use crate::{
    BatchHandler, Batched, Batching, Emitter, Event, IntoAnswers, Message,
    batch::{Answer, Gatherer},
    codec,
};

/// One message on its way into a batch.
struct Call<S, E> {
    incoming: Incoming<S>,
    event: E,
}

impl<S, E> Call<S, E> {
    /// What is needed when the handler has answered, and what the handler gets.
    fn part(self) -> ((Message, Arc<str>), Batched<E>) {
        let Incoming {
            message,
            topic,
            attempt,
            origin,
            ..
        } = self.incoming;
        let batched = Batched {
            event: self.event,
            message: message.clone(),
            topic,
            attempt,
        };
        ((message, origin), batched)
    }
}

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// Handles one type of event, many at once: as many as have come by then, up to the size, or when the first has lingered
    /// long enough.
    ///
    /// ```
    /// use sagamill_bus::{Batched, Batching, prelude::*};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Placed { order: u64 }
    /// # impl Event for Placed { const NAME: &'static str = "order.placed"; }
    ///
    /// async fn index(batch: Vec<Batched<Placed>>) -> Vec<Result<(), HandlerError>> {
    ///     batch.iter().map(|placed| match placed.event.order {
    ///         0 => Err(HandlerError::permanent("no such order")), // this one is a dead letter
    ///         _ => Ok(()), // the others are acknowledged
    ///     }).collect()
    /// }
    ///
    /// let router: Router = Router::new().on_batch(Batching::of(32), index);
    /// ```
    ///
    /// * Each message is settled by its own answer; retries, attempts and dead letters are those of any handler, and layers
    ///   see each message by itself, from its coming to its answer.
    /// * A message that cannot be decoded is no part of a batch. A panic is a failed attempt of each message.
    /// * Order per key holds across batches: a batch has at most one message of a key, and the next one comes when that is
    ///   settled. So batches are as large as there are keys.
    /// * A message whose call is dropped, by a time limit or a stop, leaves a batch that has not begun. One that has begun
    ///   goes on for the others, and the message comes again.
    /// * At a graceful stop, what has gathered is handed out when its linger is over; where the [drain](Router::drain)
    ///   deadline comes first, it is given back.
    #[must_use]
    pub fn on_batch<H, E, Args>(self, batching: Batching, handler: H) -> Self
    where
        H: BatchHandler<S, E, Args>,
        H::Output: IntoAnswers,
        H::Future: Send + 'static,
        E: Event,
        Args: 'static,
    {
        let gatherer = Gatherer::new(batching, move |calls| serve(handler.clone(), calls).boxed());
        let route = service_fn(move |incoming: Incoming<S>| {
            let gatherer = gatherer.clone();
            async move {
                let event = decode::<E>(&incoming.message)?;
                let bus = incoming.bus.clone();
                let (settlement, messages) = gatherer.call(Call { incoming, event }).await?;
                emit(&bus, messages).await?;
                Ok(settlement)
            }
        });
        let event = EventType {
            name: E::NAME,
            accepts: codec::names::<E>,
            is_command: false,
        };
        let mut router = self.add::<H>(E::topic(), Some(event), Route::new(route));
        if let Some(entry) = router.routes.last_mut() {
            entry.together = batching.size;
        }
        router
    }
}

async fn serve<S, E, H, Args>(handler: H, calls: Vec<Call<S, E>>) -> Vec<Answer>
where
    H: BatchHandler<S, E, Args>,
    H::Output: IntoAnswers,
    S: Clone,
{
    let Some(state) = calls.first().map(|call| call.incoming.state.clone()) else {
        return Vec::new();
    };
    let (causes, batch): (Vec<_>, Vec<_>) = calls.into_iter().map(Call::part).unzip();
    let output = handler.call(&state, batch).await;
    let emitters = causes.iter().map(|(message, origin)| Emitter::new(message, origin));
    let mut emitters: Vec<Emitter<'_>> = emitters.collect();
    let answers = output.into_answers(&mut emitters);
    let emitted = emitters.into_iter().map(Emitter::into_messages);
    answers
        .into_iter()
        .zip(emitted)
        .map(|(answer, messages)| answer.map(|settlement| (settlement, messages)))
        .collect()
}

//! What a local step runs in.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
    panic::resume_unwind,
    sync::Arc,
};

use futures_core::future::BoxFuture;
use sagamill_bus::{BoxError, Context, ExtractError, FromContext, Message, MessageId, Provides};
use sagamill_eventstore::Database;

use crate::barrier::{Answered, Effect, Given, Slot};
use crate::handling::{MissingState, caught};
use crate::{Answer, SagaContext, Transacts, step::LocalRun, wire};

/// What a local step runs in. State given to `Coordinator::with_state` is found by its type.
#[derive(Debug)]
pub struct LocalContext {
    message: Message,
    saga: SagaContext,
    states: States,
    slot: Slot,
}

impl Context for LocalContext {
    fn message(&self) -> &Message {
        &self.message
    }
    fn attempt(&self) -> u32 {
        self.saga.attempt
    }
}
impl<T: Clone + Send + Sync + 'static> Provides<T> for LocalContext {
    fn provide(&self) -> T {
        // Not a panic, which would be on the screen: it ends in a problem of the definition, or in a parked saga.
        self.states
            .get()
            .unwrap_or_else(|| resume_unwind(Box::new(MissingState(type_name::<T>()))))
    }
}
impl FromContext<LocalContext> for SagaContext {
    async fn from_context(cx: &LocalContext) -> Result<Self, ExtractError> {
        Ok(cx.saga.clone())
    }
}
impl<D: Database> Transacts<D> for LocalContext {
    fn slot(&self) -> &Slot {
        &self.slot
    }
}

/// States by their types.
#[derive(Clone, Default)]
pub(crate) struct States(Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl States {
    /// Adds one, in place of one of the same type.
    pub(crate) fn with<T: Clone + Send + Sync + 'static>(mut self, state: T) -> Self {
        Arc::make_mut(&mut self.0).insert(TypeId::of::<T>(), Arc::new(state));
        self
    }
    fn get<T: Clone + 'static>(&self) -> Option<T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref::<T>().cloned()
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "States({})", self.0.len())
    }
}

/// A local step's function, or its undo, with the states it may ask for.
pub(crate) struct LocalEffect {
    pub(crate) function: Arc<dyn LocalRun>,
    pub(crate) states: States,
}

impl Effect for LocalEffect {
    fn is_transactional(&self) -> bool {
        self.function.is_transactional()
    }
    fn run(&self, given: Given, slot: Slot) -> BoxFuture<'static, Result<Answered, BoxError>> {
        let saga = SagaContext::of(&given.ask);
        let message = Message::new(given.command.clone())
            .id(MessageId(saga.effect))
            .key(saga.key.clone())
            .header(wire::SAGA, saga.saga.to_string())
            .header(wire::KEY, saga.key.clone())
            .header(wire::STEP, saga.step.clone())
            .header(wire::EFFECT, saga.effect.to_string());
        let cx = LocalContext {
            message,
            saga,
            states: self.states.clone(),
            slot,
        };
        given.called.set();
        // An undo is given its step's reply, a step the saga's state.
        let run = self.function.run(cx, given.reply.unwrap_or(given.command));
        caught(async move {
            Ok(match run.await? {
                Answer::Done(reply) => Answered::Done(reply),
                Answer::Rejected(rejection) => Answered::Rejected(rejection),
            })
        })
    }
}

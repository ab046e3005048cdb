//! What a handler of a command can ask for.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use sagamill_bus::{Context, ExtractError, FromContext, FromRef, Message, Provides};
use sagamill_eventstore::{AnyDatabase, Database, InTransaction, Recorded, Transaction};
use uuid::Uuid;

use crate::barrier::{Ask, Slot};

/// One command on its way to a handler.
pub struct Request<S = (), D = AnyDatabase> {
    pub(crate) message: Message,
    pub(crate) saga: SagaContext,
    pub(crate) state: S,
    pub(crate) slot: Slot,
    pub(crate) database: PhantomData<fn() -> D>,
}

impl<S, D> Request<S, D> {
    pub(crate) fn with_state<T>(self, state: T) -> Request<T, D> {
        Request {
            message: self.message,
            saga: self.saga,
            state,
            slot: self.slot,
            database: PhantomData,
        }
    }
}
impl<S: Clone + Send + Sync + 'static, D: 'static> Context for Request<S, D> {
    fn message(&self) -> &Message {
        &self.message
    }
    fn attempt(&self) -> u32 {
        self.saga.attempt
    }
}
impl<S: Clone + Send + Sync + 'static, D: 'static, T: FromRef<S>> Provides<T> for Request<S, D> {
    fn provide(&self) -> T {
        T::from_ref(&self.state)
    }
}
impl<S, D> fmt::Debug for Request<S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("saga", &self.saga)
            .finish_non_exhaustive()
    }
}

/// Which saga asks, which step, and the effect's id, the same on every attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SagaContext {
    /// The saga's own id: one per instance.
    pub saga: Uuid,
    /// The definition's name.
    pub definition: String,
    /// The business key it was started under.
    pub key: String,
    /// The step's name.
    pub step: String,
    /// Pass it on as the idempotency key when calling systems outside.
    pub effect: Uuid,
    /// Which ask of this effect, from 1.
    pub attempt: u32,
}

impl SagaContext {
    pub(crate) fn of(ask: &Ask) -> Self {
        Self {
            saga: ask.saga,
            definition: ask.definition.clone(),
            key: ask.saga_key.clone(),
            step: ask.step.clone(),
            effect: ask.effect,
            attempt: ask.attempt,
        }
    }
}
impl<S: Clone + Send + Sync + 'static, D: 'static> FromContext<Request<S, D>> for SagaContext {
    async fn from_context(cx: &Request<S, D>) -> Result<Self, ExtractError> {
        Ok(cx.saga.clone())
    }
}

/// The transaction in which the effect, the inbox and the reply are committed together.
///
/// It derefs to the connection: `query.execute(&mut *tx)`. The library commits it after `Done`; after `Rejected` or an
/// error the handler's changes are rolled back. It goes back to the library when it is dropped, at the latest when the
/// handler returns: keeping it longer, say in a spawned task, fails the handler.
pub struct Tx<D: Database> {
    /// None only while it is being dropped.
    transaction: Option<Transaction<D>>,
    slot: Slot,
}

impl<D: Database> Tx<D> {
    fn get(&self) -> &Transaction<D> {
        self.transaction
            .as_ref()
            .expect("invariant: a `Tx` has its transaction until it is dropped")
    }
    fn get_mut(&mut self) -> &mut Transaction<D> {
        self.transaction
            .as_mut()
            .expect("invariant: a `Tx` has its transaction until it is dropped")
    }
}
impl<D: Database> Deref for Tx<D> {
    type Target = <D::Sqlx as sqlx::Database>::Connection;
    fn deref(&self) -> &Self::Target {
        self.get()
    }
}
impl<D: Database> DerefMut for Tx<D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.get_mut()
    }
}
impl<D: Database> InTransaction<D> for Tx<D> {
    type Connection = <D::Sqlx as sqlx::Database>::Connection;
    fn connection(&mut self) -> &mut Self::Connection {
        self.get_mut()
    }
    fn is_well(&mut self) {
        self.get_mut().is_well();
    }
    fn has_joined(&mut self, events: Vec<Recorded>) {
        self.get_mut().has_joined(events);
    }
}
impl<D: Database> Drop for Tx<D> {
    fn drop(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            self.slot.put(Box::new(transaction));
        }
    }
}
impl<D: Database> fmt::Debug for Tx<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tx")
    }
}
impl<X: Transacts<D>, D: Database> FromContext<X> for Tx<D> {
    const TRANSACTION: bool = true;
    async fn from_context(cx: &X) -> Result<Self, ExtractError> {
        let none = "there is no transaction here: the store is on another database, or a second `Tx` was asked for";
        let transaction = cx.slot().take().ok_or_else(|| ExtractError(none.into()))?;
        match transaction.downcast() {
            Ok(transaction) => Ok(Self {
                transaction: Some(*transaction),
                slot: cx.slot().clone(),
            }),
            Err(other) => {
                cx.slot().put(other);
                Err(ExtractError(none.into()))
            }
        }
    }
}

/// A context with a transaction on `D`.
#[diagnostic::on_unimplemented(
    message = "there is no transaction on `{D}` for `Tx<{D}>` here",
    label = "no `Tx<{D}>` here",
    note = "only a participant has one, and only on a store opened on a pool: `Participant::new(&EventStore::open(pool).await?)`"
)]
pub trait Transacts<D>: Context {
    /// Where the library lends it.
    #[doc(hidden)]
    fn slot(&self) -> &Slot;
}
impl<S: Clone + Send + Sync + 'static, D: Database> Transacts<D> for Request<S, D> {
    fn slot(&self) -> &Slot {
        &self.slot
    }
}

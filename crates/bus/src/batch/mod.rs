//! Handlers that take many messages at once: how they gather, and what is answered for each.

mod gather;

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

pub(crate) use self::gather::{Answer, Gatherer};
use crate::{BoxError, Emitter, FromRef, HOLD_MAX, IntoSettlement, Message, Settlement, State, Topic};

/// When messages that gather are handed to their handler: when there are enough of them, or the first has waited long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batching {
    /// The most messages of a batch; no more than the router has in [flight](crate::Router::max_in_flight).
    pub size: usize,
    /// How long the first message of a batch waits for others, at most a minute.
    pub linger: Duration,
}

impl Batching {
    /// At most so many messages, and a linger of 50 ms.
    #[must_use]
    pub fn of(size: usize) -> Self {
        Self {
            size: size.max(1),
            linger: Duration::from_millis(50),
        }
    }
    /// How long the first message of a batch waits for others, at most a minute.
    #[must_use]
    pub fn linger(self, linger: Duration) -> Self {
        Self {
            linger: linger.min(HOLD_MAX),
            ..self
        }
    }
}

/// One message of a batch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Batched<E> {
    /// What it says.
    pub event: E,
    /// The message as it came.
    pub message: Message,
    /// Its topic.
    pub topic: Topic,
    /// Which attempt of this message this is, from 1.
    pub attempt: u32,
}

/// An async function of a batch, with a part of the state before it where it wants one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of batches",
    label = "not a handler of batches",
    note = "it is an `async fn` of `Vec<Batched<Event>>`, or of `State<T>` and that: what else is extracted from a message stands in `Batched`"
)]
pub trait BatchHandler<S, E, Args>: Clone + Send + Sync + 'static {
    /// What the function returns when it is awaited.
    type Output;
    /// Its future.
    type Future: Future<Output = Self::Output>;
    /// Calls it.
    fn call(&self, state: &S, batch: Vec<Batched<E>>) -> Self::Future;
}
impl<F, Fut, S, E> BatchHandler<S, E, (Vec<Batched<E>>,)> for F
where
    F: Fn(Vec<Batched<E>>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future,
{
    type Output = Fut::Output;
    type Future = Fut;
    fn call(&self, _: &S, batch: Vec<Batched<E>>) -> Fut {
        self(batch)
    }
}
impl<F, Fut, S, E, T> BatchHandler<S, E, (State<T>, Vec<Batched<E>>)> for F
where
    F: Fn(State<T>, Vec<Batched<E>>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future,
    T: FromRef<S>,
{
    type Output = Fut::Output;
    type Future = Fut;
    fn call(&self, state: &S, batch: Vec<Batched<E>>) -> Fut {
        self(State(T::from_ref(state)), batch)
    }
}

/// What a handler of batches may return.
#[diagnostic::on_unimplemented(
    message = "a handler of batches cannot return `{Self}`",
    label = "returns `{Self}`",
    note = "it may return `()` for all done, a `Vec` with an answer for each message in their order, or a `Result` of one of these with any error, which is then each message's"
)]
pub trait IntoAnswers {
    /// One answer for each message, in their order; each emitter is that of one message.
    fn into_answers(self, emitters: &mut [Emitter<'_>]) -> Vec<Result<Settlement, BoxError>>;
}
impl IntoAnswers for () {
    fn into_answers(self, emitters: &mut [Emitter<'_>]) -> Vec<Result<Settlement, BoxError>> {
        emitters.iter().map(|_| Ok(Settlement::Ack)).collect()
    }
}
impl<T: IntoSettlement> IntoAnswers for Vec<T> {
    fn into_answers(self, emitters: &mut [Emitter<'_>]) -> Vec<Result<Settlement, BoxError>> {
        if self.len() != emitters.len() {
            // Nobody knows which message an answer is missing for.
            let (messages, answers) = (emitters.len(), self.len());
            return emitters
                .iter()
                .map(|_| Err(BatchError::Answers { messages, answers }.into()))
                .collect();
        }
        self.into_iter()
            .zip(emitters)
            .map(|(answer, emitter)| answer.into_settlement(emitter))
            .collect()
    }
}
impl<T: IntoAnswers, E: Into<BoxError>> IntoAnswers for Result<T, E> {
    fn into_answers(self, emitters: &mut [Emitter<'_>]) -> Vec<Result<Settlement, BoxError>> {
        match self {
            Ok(answers) => answers.into_answers(emitters),
            Err(error) => {
                let shared = Shared(Arc::from(error.into()));
                emitters.iter().map(|_| Err(shared.clone().into())).collect()
            }
        }
    }
}

/// Why a message of a batch has no answer of its own. It is tried again by the retry policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The handler is wrong: it must answer each message, in their order. None of the batch is acknowledged.
    #[error("the handler gave {answers} answers for {messages} messages")]
    Answers {
        /// How many messages it was given.
        messages: usize,
        /// How many answers it gave.
        answers: usize,
    },
    /// The batch ended without its handler.
    #[error("the batch ended without an answer")]
    Unanswered,
}

/// The one error of all messages of a batch.
#[derive(Debug, Clone)]
struct Shared(Arc<dyn StdError + Send + Sync>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl StdError for Shared {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // The error itself, and not its cause: its type says how it is judged.
        Some(&*self.0)
    }
}

//! A handler with its types forgotten: bytes in, bytes out, for the barrier to run.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use sagamill_bus::{BoxError, Context, Extract, Handler, HandlerError, Input};
use serde::{Serialize, de::DeserializeOwned};

use crate::barrier::{Answered, Given};
use crate::{Answer, Command, IntoAnswer, UndoResult, Undoes};

/// Runs with the context `X`.
pub(crate) type Run<X> = Arc<dyn Fn(X, Given) -> BoxFuture<'static, Result<Answered, BoxError>> + Send + Sync>;

/// One handler, and whether its effect is inside the transaction.
pub(crate) struct Handling<X> {
    pub(crate) is_transactional: bool,
    pub(crate) run: Run<X>,
}

impl<X> Clone for Handling<X> {
    fn clone(&self) -> Self {
        Self {
            is_transactional: self.is_transactional,
            run: self.run.clone(),
        }
    }
}

/// Thrown where a handler asks for a state that nobody gave: the name of its type.
pub(crate) struct MissingState(pub(crate) &'static str);

impl<X: Context> Handling<X> {
    /// A handler whose last argument is read from what was asked: a command, or the state of a saga.
    pub(crate) fn of<H, Args>(handler: H) -> Self
    where
        H: Handler<Args>,
        Args: Input<Input: DeserializeOwned + Send, Extractors: Extract<X>> + Send + 'static,
        H::Output: IntoAnswer,
        H::Future: Send,
    {
        Self::new::<Args, _, _>(move |cx: X, given: Given| {
            let handler = handler.clone();
            async move {
                let input = decode(&given.command)?;
                let extractors = Args::Extractors::extract(&cx).await?;
                given.called.set();
                let answer = handler.call(Args::join(extractors, input)).await.into_answer()?;
                match answer {
                    Answer::Done(reply) => Ok(Answered::Done(encode(&reply)?)),
                    Answer::Rejected(rejection) => Ok(Answered::Rejected(encode(&rejection)?)),
                }
            }
        })
    }
    /// A handler whose last argument is the undo of a command.
    pub(crate) fn of_undo<H, Args>(handler: H) -> Self
    where
        H: Handler<Args>,
        Args: Input<Input: Undoes, Extractors: Extract<X>> + Send + 'static,
        H::Output: UndoResult,
        H::Future: Send,
    {
        Self::undoing(handler, |given| {
            let command = decode::<<Args::Input as Undoes>::Command>(&given.command)?;
            let reply: <<Args::Input as Undoes>::Command as Command>::Reply = decode(reply(given))?;
            Ok(Args::Input::of(command, reply))
        })
    }
    fn undoing<H, Args>(handler: H, read: fn(&Given) -> Result<Args::Input, BoxError>) -> Self
    where
        H: Handler<Args>,
        Args: Input<Extractors: Extract<X>> + Send + 'static,
        H::Output: UndoResult,
        H::Future: Send,
    {
        Self::new::<Args, _, _>(move |cx: X, given: Given| {
            let handler = handler.clone();
            async move {
                let extractors = Args::Extractors::extract(&cx).await?;
                let args = Args::join(extractors, read(&given)?);
                given.called.set();
                handler.call(args).await.into_undone()?;
                Ok(Answered::Done(Bytes::from_static(b"null")))
            }
        })
    }
    fn new<Args, F, Fut>(run: F) -> Self
    where
        Args: Input<Extractors: Extract<X>>,
        F: Fn(X, Given) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Answered, BoxError>> + Send + 'static,
    {
        let is_transactional = <Args::Extractors as Extract<X>>::TRANSACTION;
        let run = move |cx: X, given: Given| caught(run(cx, given));
        Self {
            is_transactional,
            run: Arc::new(run),
        }
    }
}

/// A panic is an error like any other: rolled back, and tried again.
pub(crate) fn caught(
    run: impl Future<Output = Result<Answered, BoxError>> + Send + 'static,
) -> BoxFuture<'static, Result<Answered, BoxError>> {
    Box::pin(async move {
        AssertUnwindSafe(run)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| Err(panicked(&*panic)))
    })
}

fn panicked(panic: &(dyn Any + Send)) -> BoxError {
    if let Some(MissingState(name)) = panic.downcast_ref() {
        let missing = format!("the handler takes `State<{name}>`, which `.with_state(..)` was not given");
        return HandlerError::permanent(missing).into();
    }
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", said.unwrap_or("without a message")).into()
}

fn reply(given: &Given) -> &[u8] {
    given.reply.as_deref().unwrap_or(b"null")
}
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BoxError> {
    serde_json::from_slice(bytes).map_err(|error| sagamill_bus::Error::Codec(error.into()).into())
}
fn encode<T: Serialize>(value: &T) -> Result<Bytes, BoxError> {
    // What cannot be written now cannot be written later: no reason to try again.
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| HandlerError::permanent(error).into())
}

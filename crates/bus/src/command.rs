//! What is asked of a service, and what it answers.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{BoxError, Key};

/// What is asked of a service: of a handler by [`Bus::send`](crate::Bus::send) and [`Requests`](crate::Requests), of a
/// participant by a saga.
///
/// Its [`NAME`](Command::NAME) is `service.verb`; commands of one service share its topic `service.commands`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a command",
    label = "not a command",
    note = "say what it asks and what is answered: `impl Command for {Self} {{ const NAME: &'static str = \"service.verb\"; type Reply = ..; type Rejection = ..; }}`"
)]
pub trait Command: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// `service.verb`.
    const NAME: &'static str;
    /// The schema version of its content, from 1.
    const VERSION: u16 = 1;
    /// What the service answers when it is done.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// Why it may refuse. [`Never`]: it cannot.
    type Rejection: Serialize + DeserializeOwned + Send + 'static;

    /// Commands of one key stay in order. None: those of one saga do, and no others.
    fn key(&self) -> Option<Key> {
        None
    }
}

/// The rejection of what is never rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Never {}

/// What a service answers. A rejection is no error: it proves that nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T, R = Never> {
    /// Done, with its reply.
    Done(T),
    /// Refused: nothing was changed.
    Rejected(R),
}

impl<T, R> From<Result<T, R>> for Answer<T, R> {
    fn from(result: Result<T, R>) -> Self {
        match result {
            Ok(reply) => Self::Done(reply),
            Err(rejection) => Self::Rejected(rejection),
        }
    }
}

/// What the handler of a command or of a saga's step returns: an `Answer`, or a `Result` of one with any error (which is
/// tried again).
#[diagnostic::on_unimplemented(
    message = "a step cannot return `{Self}`",
    label = "returns `{Self}`",
    note = "return `Answer<Reply>`, `Answer<Reply, Rejection>`, or a `Result` of one of these with any error: `Ok(Done(reply))`"
)]
pub trait IntoAnswer {
    /// What it replies when it is done.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// Why it may refuse.
    type Rejection: Serialize + DeserializeOwned + Send + 'static;

    /// The answer, or the error for which it is tried again.
    ///
    /// # Errors
    /// The handler gave one.
    fn into_answer(self) -> Result<Answer<Self::Reply, Self::Rejection>, BoxError>;
}
impl<T, R> IntoAnswer for Answer<T, R>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    type Reply = T;
    type Rejection = R;
    fn into_answer(self) -> Result<Self, BoxError> {
        Ok(self)
    }
}
impl<T, R, E: Into<BoxError>> IntoAnswer for Result<Answer<T, R>, E>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    type Reply = T;
    type Rejection = R;
    fn into_answer(self) -> Result<Answer<T, R>, BoxError> {
        self.map_err(Into::into)
    }
}

/// The reply that the command `C` names.
#[diagnostic::on_unimplemented(
    message = "`{C}` is answered by `{Reply}`, but its handler replies `{Self}`",
    label = "replies `{Self}`",
    note = "`impl Command for {C}` says `type Reply = {Reply}`"
)]
pub trait ReplyOf<C, Reply> {}
impl<C, T> ReplyOf<C, T> for T {}

/// The rejection that the command `C` names.
#[diagnostic::on_unimplemented(
    message = "`{C}` may be rejected by `{Rejection}`, but its handler rejects it by `{Self}`",
    label = "rejects by `{Self}`",
    note = "`impl Command for {C}` says `type Rejection = {Rejection}`"
)]
pub trait RejectionOf<C, Rejection> {}
impl<C, T> RejectionOf<C, T> for T {}

/// The topic of a service's commands. The service is the first part of a command's name.
#[must_use]
pub fn command_topic(command: &str) -> String {
    let service = command.split_once('.').map_or(command, |(service, _)| service);
    format!("{service}.commands")
}

//! Routes whose handlers do what they are asked, and answer.

use tower::service_fn;

use super::{EventType, Incoming, Route, Router};
use crate::{
    Command, Error, Extract, Handler, Input, IntoAnswer, RejectionOf, ReplyOf, Result, Settlement, command_topic, reply,
};

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// Handles one command: the handler's last argument says which. No other handler may take it: a second one in the same
    /// router, or in the [`Groups`](crate::Groups) that the router is in, is [`Error::TwoHandlers`](crate::Error::TwoHandlers).
    ///
    /// ```
    /// use sagamill_bus::{Never, prelude::*};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize)]
    /// struct Reserve { sku: String }
    /// impl Command for Reserve {
    ///     const NAME: &'static str = "inventory.reserve";
    ///     type Reply = u64;
    ///     type Rejection = Never;
    /// }
    ///
    /// async fn reserve(reserve: Reserve) -> Result<Answer<u64>, HandlerError> {
    ///     Ok(Done(42))
    /// }
    ///
    /// let router: Router = Router::new().on_command(reserve);
    /// ```
    ///
    /// * Where the command comes from [`Requests`](crate::Requests), the answer is published before the command is
    ///   acknowledged; else it is thrown away.
    /// * A command on the topic of such handlers that none of them knows is a dead letter.
    /// * A command that is given up is answered too, once its death is settled. Where the process dies between the two, its
    ///   asker waits in vain.
    ///
    /// The commands of sagas are for a participant, which does each once.
    #[must_use]
    pub fn on_command<H, Args>(self, handler: H) -> Self
    where
        H: Handler<Args>,
        Args: Input<Input: Command, Extractors: Extract<Incoming<S>>>,
        H::Output: IntoAnswer,
        <H::Output as IntoAnswer>::Reply: ReplyOf<Args::Input, <Args::Input as Command>::Reply>,
        <H::Output as IntoAnswer>::Rejection: RejectionOf<Args::Input, <Args::Input as Command>::Rejection>,
        H::Future: Send + 'static,
    {
        let route = service_fn(move |incoming: Incoming<S>| {
            let handler = handler.clone();
            async move {
                let command: Args::Input =
                    serde_json::from_slice(&incoming.message.payload).map_err(|e| Error::Codec(e.into()))?;
                let extractors = Args::Extractors::extract(&incoming).await?;
                let answer = handler.call(Args::join(extractors, command)).await;
                let reply = reply::answer(&incoming.message, &incoming.origin, answer)?;
                if let Some((topic, message)) = reply {
                    incoming.bus.publish_to(topic, [message]).await?;
                }
                Ok(Settlement::Ack)
            }
        });
        let command = EventType {
            name: Args::Input::NAME,
            accepts: |name| name == Args::Input::NAME,
            is_command: true,
        };
        let topic = command_topic(Args::Input::NAME).into();
        self.add::<H>(Some(topic), Some(command), Route::new(route))
    }

    /// Its commands and their handlers.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let commands = self
            .routes
            .iter()
            .filter_map(|entry| Some((entry.event?, entry.handler)));
        commands
            .filter(|(event, _)| event.is_command)
            .map(|(event, handler)| (event.name, handler))
    }
}

/// Whether each command has one handler.
pub(crate) fn check(commands: impl Iterator<Item = (&'static str, &'static str)>) -> Result<()> {
    let mut known: Vec<(&'static str, &'static str)> = Vec::new();
    for (command, second) in commands {
        if let Some((_, first)) = known.iter().find(|(name, _)| *name == command) {
            return Err(Error::TwoHandlers { command, first, second });
        }
        known.push((command, second));
    }
    Ok(())
}

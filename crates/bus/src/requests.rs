//! A command, and its answer awaited.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::fast::FixedState;
use futures_util::StreamExt;
use tokio::{sync::oneshot, task::JoinSet, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Answer, Bus, Command, Deliveries, Delivery, Error, Message, MessageId, Order, Result, Start, Subscribe, Topic,
    codec, command_topic,
    error::chain,
    headers::name,
    metric_definitions as metric,
    reply::{self, Reply},
};

/// Replies that are acknowledged at a time.
const IN_FLIGHT: usize = 256;

/// Sends commands and awaits their answers. Cheap to clone; with the last clone its subscription ends.
///
/// ```
/// use std::time::Duration;
/// use sagamill_bus::{Never, Requests, prelude::*};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct Reserve { sku: String }
/// # impl Command for Reserve {
/// #     const NAME: &'static str = "inventory.reserve";
/// #     type Reply = u64;
/// #     type Rejection = Never;
/// # }
/// # async fn reserve(reserve: Reserve) -> Answer<u64> { Done(42) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let bus = Bus::memory();
/// # let inventory = Router::new().on_command(reserve).subscribe(bus.group("inventory")).await?;
/// # tokio::spawn(inventory.run(std::future::pending()));
/// let requests = Requests::start(&bus, "web-1").await?;
/// let reserve = Reserve { sku: "tea".into() };
/// let answer = requests.ask(&reserve, Duration::from_secs(5)).await?;
/// assert!(matches!(answer, Done(42)));
/// # Ok(())
/// # }
/// ```
///
/// * Each call holds one entry of a map while it waits; a call that is dropped or times out leaves nothing.
/// * An answer that nobody waits for, since it is late or comes twice, is counted and passed over.
/// * A call that times out tells nothing: the command may be done, be done later, or be lost with its handler.
#[derive(Clone)]
pub struct Requests(Arc<Inner>);

struct Inner {
    bus: Bus,
    topic: Topic,
    waiting: Arc<Waiting>,
    _replies: AbortOnDropHandle<()>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// No answer came in time: it is unknown whether the command is done.
    #[error("no answer came within {within:?}: the command may be done all the same")]
    TimedOut {
        /// How long it was waited for.
        within: Duration,
    },
    /// The command was given up, and is a dead letter of its service: it can be requeued there, but is not answered again.
    #[error("the command was given up: {reason}")]
    Failed {
        /// What its handler said last.
        reason: String,
    },
    /// The command could not be published, the answer could not be read, or the connection was closed.
    #[error("the bus failed")]
    Bus(#[from] Error),
}

impl Requests {
    /// Subscribes to the replies of this process, on the topic `<name>.replies`. The name is this process's own: two of one
    /// name would take each other's replies. It is best the same after a restart, so that brokers keep one topic for it.
    ///
    /// # Errors
    /// [`Error::InvalidTopic`] for a name that is no part of a topic, else what the transport says.
    pub async fn start(bus: &Bus, name: &str) -> Result<Self> {
        let topic = Topic::from(format!("{name}.replies"));
        topic.check_name()?;
        let request = Subscribe::new(topic.clone(), name).start(Start::Latest);
        let replies = bus
            .subscribe(request.order(Order::None).max_in_flight(IN_FLIGHT))
            .await?;
        let waiting = Arc::new(Waiting::default());
        let task = tokio::spawn(hand_out(replies, Arc::clone(&waiting)));
        Ok(Self(Arc::new(Inner {
            bus: bus.clone(),
            topic,
            waiting,
            _replies: AbortOnDropHandle::new(task),
        })))
    }
    /// Sends a command and awaits its answer: what its handler replies, or why it refuses.
    ///
    /// # Errors
    /// [`AskError`]: each says whether the command may be done all the same.
    ///
    /// # Cancel safety
    /// Dropped, it leaves nothing behind; the command may be done.
    pub async fn ask<C: Command>(
        &self,
        command: &C,
        within: Duration,
    ) -> Result<Answer<C::Reply, C::Rejection>, AskError> {
        let message = codec::command(command)?.header(name::REPLY_TO, self.0.topic.to_string());
        let mut place = self.0.waiting.place(message.id)?;
        let answered = async {
            self.0.bus.publish_to(command_topic(C::NAME), [message]).await?;
            (&mut place.reply).await.map_err(|_| Error::Closed)
        };
        let reply = timeout(within, answered)
            .await
            .map_err(|_| AskError::TimedOut { within })??;
        match reply::read(&reply)? {
            Reply::Answered(answer) => Ok(answer),
            Reply::Failed(reason) => Err(AskError::Failed { reason }),
        }
    }
    /// How many calls wait for their answers.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.calls().as_ref().map_or(0, HashMap::len)
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests")
            .field("topic", &self.0.topic)
            .finish_non_exhaustive()
    }
}

type Calls = HashMap<MessageId, oneshot::Sender<Message>, FixedState>;

/// The calls that wait, by the ids of their commands; none: there will be no more replies.
struct Waiting(Mutex<Option<Calls>>);

/// One call's entry, for as long as it waits.
struct Place<'a> {
    waiting: &'a Waiting,
    id: MessageId,
    reply: oneshot::Receiver<Message>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self(Mutex::new(Some(Calls::default())))
    }
}

impl Waiting {
    fn place(&self, id: MessageId) -> Result<Place<'_>> {
        let (sender, reply) = oneshot::channel();
        self.calls().as_mut().ok_or(Error::Closed)?.insert(id, sender);
        Ok(Place {
            waiting: self,
            id,
            reply,
        })
    }
    /// Whether somebody waited for it.
    fn give(&self, reply: Message) -> bool {
        let call = reply::command_of(&reply).and_then(|id| self.calls().as_mut()?.remove(&id));
        call.is_some_and(|call| call.send(reply).is_ok())
    }
    fn close(&self) {
        *self.calls() = None;
    }
    fn calls(&self) -> MutexGuard<'_, Option<Calls>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(calls) = self.waiting.calls().as_mut() {
            calls.remove(&self.id);
        }
    }
}

/// Hands replies to those who wait, until the subscription ends.
async fn hand_out(mut replies: Deliveries, waiting: Arc<Waiting>) {
    let mut settling = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = settling.join_next(), if !settling.is_empty() => {}
            next = replies.next() => match next {
                Some(Ok(delivery)) => {
                    settling.spawn(take(delivery, &waiting));
                }
                Some(Err(error)) if error.is_retryable() => {
                    tracing::warn!(error = chain(&error), "the subscription to replies was disturbed");
                }
                Some(Err(error)) => {
                    tracing::error!(error = chain(&error), "there are no more replies");
                    break;
                }
                None => break,
            },
        }
    }
    waiting.close();
    while settling.join_next().await.is_some() {}
}

/// Gives a reply to its call at once, and acknowledges it when that future is driven.
fn take(delivery: Delivery, waiting: &Waiting) -> impl Future<Output = ()> + Send + 'static {
    if !waiting.give(delivery.message.clone()) {
        tracing::debug!(message = %delivery.message.id, "nobody waits for this reply");
        metrics::counter!(metric::REPLIES_UNAWAITED, "destination" => delivery.topic.label()).increment(1);
    }
    async move {
        // Where this fails, the reply comes again, and nobody waits for it then.
        if let Err(error) = delivery.ack().await {
            tracing::debug!(error = chain(&error), "a reply was not acknowledged");
        }
    }
}

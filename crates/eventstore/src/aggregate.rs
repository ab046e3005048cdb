//! Deciders: state folded from events, and the decisions taken on it.

use sagamill_bus::Event;

use crate::{Append, Error, EventStore, Expected, NewEvent, Receipt, Result, StreamId, Version};

/// How often a decision is taken again because somebody else came first: each time, somebody else did get on.
const CONFLICTS: usize = 64;
/// How often a decision is appended again because it is not known whether it went through.
const REPEATS: usize = 8;

/// State folded from events, and the decisions taken on it. Pure: no clock, no input or output.
pub trait Aggregate: Default + Send + 'static {
    /// The category of its streams: `order` makes `order-42`.
    const NAME: &'static str;
    /// What is asked of it; cloned, because it is asked again when somebody else came first.
    type Command: Clone + Send;
    /// What happens to it.
    type Event: Event;
    /// Why it may say no.
    type Error: std::error::Error;

    /// What happens when this is asked.
    ///
    /// # Errors
    /// The aggregate's own no.
    fn decide(&self, command: Self::Command) -> Result<Vec<Self::Event>, Self::Error>;
    /// The state after an event.
    fn evolve(&mut self, event: Self::Event);
}

/// An aggregate as its stream has it.
#[derive(Debug)]
pub struct Loaded<A> {
    /// Folded from all its events.
    pub state: A,
    /// Its stream's version; none: it has no event yet.
    pub version: Option<Version>,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<E> {
    /// The aggregate said no.
    #[error(transparent)]
    Refused(E),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl<D> EventStore<D> {
    /// Loads an aggregate from its events.
    ///
    /// # Errors
    /// [`Error::Codec`] for an event that does not fit its type; the database.
    pub async fn load<A: Aggregate>(&self, id: impl ToString) -> Result<Loaded<A>> {
        let mut events = self.read_as::<A::Event>(stream::<A>(&id.to_string()));
        let mut loaded = Loaded {
            state: A::default(),
            version: None,
        };
        while let Some(event) = events.next().await {
            let event = event?;
            loaded.version = Some(event.version);
            loaded.state.evolve(event.event);
        }
        Ok(loaded)
    }
    /// Loads, decides, appends; again when somebody else came first. None: there was nothing to append.
    ///
    /// # Errors
    /// [`ExecuteError::Refused`] is the aggregate's own no.
    pub async fn execute<A: Aggregate>(
        &self,
        id: impl ToString,
        command: A::Command,
    ) -> Result<Option<Receipt>, ExecuteError<A::Error>> {
        let id = id.to_string();
        for _ in 0..CONFLICTS {
            let Loaded { state, version } = self.load::<A>(&id).await?;
            let events = state.decide(command.clone()).map_err(ExecuteError::Refused)?;
            if events.is_empty() {
                return Ok(None);
            }
            let events = events.iter().map(NewEvent::of).collect::<Result<_>>()?;
            let expected = version.map_or(Expected::NoStream, Expected::Exact);
            match self
                .insist(Append {
                    stream: stream::<A>(&id),
                    expected,
                    events,
                })
                .await
            {
                Ok(receipt) => return Ok(Some(receipt)),
                Err(Error::Conflict { .. }) => (),
                Err(error) => return Err(error.into()),
            }
        }
        let what = format!(
            "`{}` changed {CONFLICTS} times while it was being decided on",
            stream::<A>(&id)
        );
        Err(Error::Unavailable { what }.into())
    }

    /// Appends; again under the same ids where the outcome is not known, so that it is stored once.
    async fn insist(&self, append: Append) -> Result<Receipt> {
        let mut tries = 1..=REPEATS;
        loop {
            match self.commit(append.clone()).await {
                Err(Error::Unknown(_)) if tries.next().is_some() => (),
                receipts => return receipts.map(|receipts| receipts[0]),
            }
        }
    }
}

fn stream<A: Aggregate>(id: &str) -> StreamId {
    format!("{}-{id}", A::NAME).into()
}

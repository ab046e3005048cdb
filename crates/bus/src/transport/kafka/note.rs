//! What is done with one message of a subscription: settled, given back, and noted. All of it is written down in the ledger,
//! which goes to the brokers with the committed offsets.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{
    ledger::{Ledger, Place},
    link::Link,
};
use crate::{
    Error, Message, Result, Topic,
    dead_letter::Death,
    transport::lanes::{Arrival, Broker, Letter, Note},
};

/// A message as it came, for when it is to come again.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    pub(super) place: Place,
    /// Which of its deliveries it is; 2 also where an earlier process may have had it.
    pub(super) delivered: u64,
    pub(super) topic: Topic,
    pub(super) message: Message,
    pub(super) history: Vec<Death>,
}

impl Carried {
    /// Roughly what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.message.payload.len() + 512
    }
    pub(super) fn arrival(self) -> Arrival<Place, Arc<Self>> {
        Arrival {
            id: self.place,
            delivered: self.delivered,
            topic: self.topic.clone(),
            message: self.message.clone(),
            history: self.history.clone(),
            token: Arc::new(self),
        }
    }
}

/// A subscription's messages. A token is the message itself: Kafka does not give one again.
pub(super) struct Consumed {
    pub(super) link: Arc<Link>,
    pub(super) group: String,
    pub(super) ledger: Mutex<Ledger>,
    /// What waits without a key, until it is due.
    delayed: Mutex<BTreeMap<(Instant, Place), Carried>>,
    /// Messages wait to be handed out, or the first of the delayed has changed.
    pub(super) news: Notify,
    /// The brokers are to be told at once.
    pub(super) tell: Notify,
    /// How often they were told, and what went wrong the last time.
    pub(super) told: watch::Sender<(u64, Option<String>)>,
    /// Held while they are told: an older state must not overtake a newer one.
    pub(super) telling: Mutex<()>,
}

impl Consumed {
    pub(super) fn new(link: Arc<Link>, group: String) -> Self {
        Self {
            link,
            group,
            ledger: Mutex::default(),
            delayed: Mutex::default(),
            news: Notify::new(),
            tell: Notify::new(),
            told: watch::channel((0, None)).0,
            telling: Mutex::default(),
        }
    }
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn delayed(&self) -> MutexGuard<'_, BTreeMap<(Instant, Place), Carried>> {
        self.delayed.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// What is due by now, and when the next one is.
    pub(super) fn take_due(&self, now: Instant) -> (Vec<Carried>, Option<Instant>) {
        let mut delayed = self.delayed();
        let mut due = Vec::new();
        while let Some(first) = delayed.first_entry().filter(|first| first.key().0 <= now) {
            due.push(first.remove());
        }
        (due, delayed.keys().next().map(|(at, _)| *at))
    }
    /// A partition is ours no more.
    pub(super) fn forget_delayed(&self, turn: u64) {
        self.delayed().retain(|(_, place), _| place.turn != turn);
    }
    async fn until_told(&self, turn: u64, version: u64) -> Result<()> {
        let mut told = self.told.subscribe();
        loop {
            self.tell.notify_one();
            let known = self.ledger().told(turn).ok_or(Error::Stale)?;
            if known >= version {
                return Ok(());
            }
            let round = timeout(self.link.options.confirm_within, told.changed()).await;
            match round {
                Ok(Ok(())) => {
                    if let Some(why) = &told.borrow_and_update().1 {
                        return Err(Error::Unconfirmed(why.clone().into()));
                    }
                }
                Ok(Err(_)) | Err(_) => return Err(Error::Unconfirmed("no answer to a commit".into())),
            }
        }
    }
}

impl Broker for Consumed {
    type Id = Place;
    type Token = Arc<Carried>;

    fn patience(&self) -> Duration {
        // Settling asks no broker.
        Duration::ZERO
    }
    async fn recall(&self, place: Place) -> Result<Option<Note>> {
        Ok(self.ledger().noted(place))
    }
    async fn note(&self, place: Place, note: Note) -> Result<()> {
        let version = self.ledger().note(place, note);
        self.until_told(place.turn, version.ok_or(Error::Stale)?).await
    }
    /// It went when the message was settled.
    async fn forget(&self, _: Place) {}
    /// Returns at once: the offset is committed a little later, as is usual with Kafka, since a commit for each message would
    /// cost more than the message.
    async fn ack(&self, token: &Arc<Carried>) -> Result<()> {
        let settled = self.ledger().settle(token.place);
        self.news.notify_one();
        settled.then_some(()).ok_or(Error::Stale)
    }
    /// It stays open in the ledger, for the next process; or here, until it is due.
    async fn give_back(&self, token: &Arc<Carried>, after: Option<Duration>) -> Result<()> {
        let Some(after) = after.filter(|after| !after.is_zero()) else {
            return Ok(());
        };
        let mut again = Carried::clone(token);
        again.delivered += 1;
        self.delayed().insert((Instant::now() + after, again.place), again);
        self.news.notify_one();
        Ok(())
    }
    async fn bury(&self, letter: &Letter) -> Result<()> {
        self.link.bury(&self.group, letter).await
    }
}

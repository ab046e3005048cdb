//! A connection to a broker, and the registry that a URL picks it from.

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_core::future::BoxFuture;

use crate::transport::DynTransport;
use crate::{Capabilities, Deliveries, Error, Event, Message, Receipt, Result, Subscribe, Topic, Transport};

/// A connection to a broker. Cheap to clone.
#[derive(Clone)]
pub struct Bus(Arc<dyn DynTransport>);

/// A bus seen by one consumer group: its members share the messages.
#[derive(Debug, Clone)]
pub struct Group {
    pub(crate) bus: Bus,
    pub(crate) name: String,
}

impl Bus {
    /// Connects to the broker that the URL names, of those this crate knows: `memory:`.
    ///
    /// # Errors
    /// [`Error::UnknownScheme`] or [`Error::FeatureOff`] where no transport answers to the URL.
    pub async fn connect(url: &str) -> Result<Self> {
        Transports::default().connect(url).await
    }
    /// The transport inside this process: ordered, bounded, with groups; the reference for all others.
    pub fn memory() -> Self {
        todo!()
    }
    /// Takes a transport of one's own, or one built from a client that exists already.
    pub fn new(transport: impl Transport) -> Self {
        Self(Arc::new(transport))
    }
    /// The bus as one consumer group sees it.
    pub fn group(&self, name: impl Into<String>) -> Group {
        Group { bus: self.clone(), name: name.into() }
    }
    /// Its transport's name.
    pub fn transport(&self) -> &'static str {
        self.0.name()
    }
    /// What its transport can promise.
    pub fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
    /// Publishes an event to its own topic; returns when the broker has confirmed it.
    ///
    /// # Errors
    /// What the transport says of it.
    pub async fn publish<E: Event>(&self, _event: &E) -> Result<Receipt> {
        todo!()
    }
    /// Publishes messages as they are; fails with the first one's error.
    ///
    /// # Errors
    /// What the transport says of the first message that failed; others may have been published.
    pub async fn publish_to(
        &self,
        topic: impl Into<Topic>,
        batch: impl IntoIterator<Item = Message>,
    ) -> Result<Vec<Receipt>> {
        self.publish_each(&topic.into(), batch.into_iter().collect()).await.into_iter().collect()
    }
    /// Publishes messages as they are, one result for each.
    pub async fn publish_each(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        self.0.publish(topic, batch).await
    }
    /// Publishes, and returns when each message is safe without its publisher: see [`Transport::publish_settled`].
    pub async fn publish_settled(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        self.0.publish_settled(topic, batch).await
    }
    /// Subscribes without a router: each delivery is the caller's to settle.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where more is asked than the transport promises.
    pub async fn subscribe(&self, request: Subscribe) -> Result<Deliveries> {
        self.0.subscribe(request).await
    }
    /// Flushes and closes the connection, for all clones.
    ///
    /// # Errors
    /// What the transport says.
    pub async fn close(self) -> Result<()> {
        self.0.close().await
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bus").field(&self.0.name()).finish()
    }
}

type Connect = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Bus>> + Send + Sync>;

/// Transports by URL scheme. A crate that implements some (a log is one) adds its own.
#[derive(Clone)]
pub struct Transports(BTreeMap<&'static str, Connect>);

impl Default for Transports {
    /// Those of this crate.
    fn default() -> Self {
        Self(BTreeMap::new()).register("memory", |_| async { Ok(Bus::memory()) })
    }
}

impl Transports {
    /// Adds a scheme, in place of one of the same name.
    #[must_use]
    pub fn register<F, Fut>(mut self, scheme: &'static str, connect: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bus>> + Send + 'static,
    {
        self.0.insert(scheme, Arc::new(move |url| Box::pin(connect(url))));
        self
    }
    /// Connects by URL.
    ///
    /// # Errors
    /// [`Error::FeatureOff`] where the scheme is known but left out of this build, [`Error::UnknownScheme`] where it is
    /// not known at all, else what the transport says.
    pub async fn connect(&self, url: &str) -> Result<Bus> {
        let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
        match self.0.get(scheme) {
            Some(connect) => connect(url.to_owned()).await,
            None => Err(Error::UnknownScheme { scheme: scheme.to_owned() }),
        }
    }
}

impl fmt::Debug for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

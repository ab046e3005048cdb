//! A log as a bus: the bus's own suite over it, and what is asked of no other transport.
//!
//! ```
//! # use sagamill_eventstore::conformance::{bus::Harness, in_memory};
//! sagamill_bus::conformance!(#[tokio::test] Harness::over(in_memory()));
//! # fn main() {}
//! ```

pub mod failing;
pub mod keeping;
mod process;
pub mod sharing;
pub mod surviving;
pub mod trying;

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
    time::Duration,
};

use sagamill_bus::{
    Bus, Capabilities, DeadLetterStore, Deliveries, Inspect, Message, Receipt, Result, Subscribe, Topic, Transport,
    conformance,
};

use super::Subject;
use crate::{EventStore, LogTransport};

/// Puts a log through the bus's suite. Each connection is as a process of its own, with a store of its own.
pub struct Harness {
    /// None: it cannot be had here, which was said.
    subject: Option<Arc<dyn Subject>>,
    connections: Mutex<Vec<Weak<Connection>>>,
    quiet: Duration,
}

impl Harness {
    /// Over this log; over none, each test is left out.
    pub fn over(subject: impl Into<Option<Arc<dyn Subject>>>) -> Self {
        Self {
            subject: subject.into(),
            connections: Mutex::default(),
            quiet: Duration::from_millis(500),
        }
    }
}

impl Harness {
    fn subject(&self) -> &dyn Subject {
        let subject = self.subject.as_deref();
        subject.expect("invariant: nothing is asked of a harness whose tests are left out")
    }
}

impl std::fmt::Debug for Harness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness").finish_non_exhaustive()
    }
}

impl conformance::Harness for Harness {
    async fn connect(&self) -> Bus {
        let open = Open::over(self.subject().open().await);
        let connection = Arc::new(Connection(RwLock::new(Arc::new(open))));
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.push(Arc::downgrade(&connection));
        Bus::new(Handle(connection))
    }
    /// All processes stop and start again, as when a machine is started anew.
    async fn restart(&self) -> bool {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let alive: Vec<_> = connections.iter().filter_map(Weak::upgrade).collect();
        for connection in &alive {
            connection.open().close().await.expect("the connection closes");
        }
        for connection in &alive {
            let open = Open::over(self.subject().open().await);
            *connection.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(open);
        }
        true
    }
    fn quiet(&self) -> Duration {
        self.quiet
    }
    fn is_left_out(&self) -> bool {
        self.subject.is_none()
    }
}

/// A process's connection, which is another one after a restart.
struct Connection(RwLock<Arc<Open>>);

impl Connection {
    fn open(&self) -> Arc<Open> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Open {
    store: EventStore,
    transport: LogTransport,
}

impl Open {
    fn over(store: EventStore) -> Self {
        let transport = LogTransport::new(&store);
        Self { store, transport }
    }
    async fn close(&self) -> Result<()> {
        self.transport.close().await?;
        self.store.close().await;
        Ok(())
    }
}

struct Handle(Arc<Connection>);

impl Transport for Handle {
    fn name(&self) -> &'static str {
        self.0.open().transport.name()
    }
    fn capabilities(&self) -> Capabilities {
        self.0.open().transport.capabilities()
    }
    async fn publish(&self, topic: &Topic, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        self.0.open().transport.publish(topic, batch).await
    }
    async fn subscribe(&self, request: Subscribe) -> Result<Deliveries> {
        self.0.open().transport.subscribe(request).await
    }
    async fn close(&self) -> Result<()> {
        self.0.open().close().await
    }
    fn dead_letters(&self) -> Option<Arc<dyn DeadLetterStore>> {
        self.0.open().transport.dead_letters()
    }
    fn inspection(&self) -> Option<Arc<dyn Inspect>> {
        self.0.open().transport.inspection()
    }
}

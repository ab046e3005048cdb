//! The barrier of a log in memory: rows are events beside the replies, so that both are one commit.

use std::any::Any;

use futures_core::future::BoxFuture;
use jiff::Timestamp;
use sagamill_eventstore::{Append, Batch, EventStore, Expected, NewEvent, StreamId, Version};
use uuid::Uuid;

use super::{Barrier, Passage, Phase, Row};
use crate::{Error, Result};

/// The type of the events that hold rows.
const ROW: &str = "saga.barrier";
/// The type of the events that take rows away.
const REMOVED: &str = "saga.barrier-removed";

pub(crate) struct MemoryBarrier {
    store: EventStore,
}

impl MemoryBarrier {
    pub(crate) fn new(store: EventStore) -> Self {
        Self { store }
    }
}

impl Barrier for MemoryBarrier {
    fn migrate(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Passage>>> {
        let passage = MemoryPassage {
            store: self.store.clone(),
            seen: None,
            written: Vec::new(),
        };
        Box::pin(async { Ok(Box::new(passage) as Box<dyn Passage>) })
    }
    fn sweep(&self, _before: Timestamp, _most: u32) -> BoxFuture<'_, Result<u64>> {
        // The log keeps all it has for as long as the process lives.
        Box::pin(async { Ok(0) })
    }
    fn transactional(&self) -> bool {
        false
    }
}

/// What one effect's stream held when it was first looked at, and what is to be added to it.
struct MemoryPassage {
    store: EventStore,
    seen: Option<Seen>,
    written: Vec<NewEvent>,
}

struct Seen {
    stream: StreamId,
    version: Version,
    rows: Vec<Row>,
    ids: Vec<Uuid>,
}

impl MemoryPassage {
    async fn look(&mut self, effect: Uuid) -> Result<&mut Seen> {
        if self.seen.is_none() {
            let stream = super::stream(effect);
            let mut seen = Seen {
                stream: stream.clone(),
                version: Version(0),
                rows: Vec::new(),
                ids: Vec::new(),
            };
            let mut read = self.store.read(stream);
            while let Some(event) = read.next().await {
                let event = event?;
                seen.version = event.version;
                seen.ids.push(event.id);
                match event.name.as_str() {
                    ROW => seen.put(serde_json::from_slice(&event.event).map_err(Error::codec)?),
                    REMOVED => seen.remove(serde_json::from_slice(&event.event).map_err(Error::codec)?),
                    _ => {}
                }
            }
            self.seen = Some(seen);
        }
        Ok(self.seen.as_mut().expect("invariant: it was looked at above"))
    }
    fn event(&self, name: &str, json: Vec<u8>) -> NewEvent {
        NewEvent {
            id: self.store.new_id(),
            ..NewEvent::new(name, json)
        }
    }
    async fn write(&mut self, row: &Row) -> Result<()> {
        let event = self.event(ROW, serde_json::to_vec(row).map_err(Error::codec)?);
        self.look(row.effect).await?.put(row.clone());
        self.written.push(event);
        Ok(())
    }
}

impl Seen {
    fn put(&mut self, row: Row) {
        self.remove(row.phase);
        self.rows.push(row);
    }
    fn remove(&mut self, phase: Phase) {
        self.rows.retain(|row| row.phase != phase);
    }
}

impl Passage for MemoryPassage {
    fn insert<'a>(&'a mut self, row: &'a Row) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            if self
                .look(row.effect)
                .await?
                .rows
                .iter()
                .any(|other| other.phase == row.phase)
            {
                return Ok(false);
            }
            self.write(row).await?;
            Ok(true)
        })
    }
    fn find(&mut self, effect: Uuid, phase: Phase) -> BoxFuture<'_, Result<Option<Row>>> {
        Box::pin(async move {
            Ok(self
                .look(effect)
                .await?
                .rows
                .iter()
                .find(|row| row.phase == phase)
                .cloned())
        })
    }
    fn update<'a>(&'a mut self, row: &'a Row) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.write(row))
    }
    fn remove(&mut self, effect: Uuid, phase: Phase) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.look(effect).await?.remove(phase);
            let event = self.event(REMOVED, serde_json::to_vec(&phase).map_err(Error::codec)?);
            self.written.push(event);
            Ok(())
        })
    }
    fn stage(&mut self, effect: Uuid, reply: NewEvent) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if !self.look(effect).await?.ids.contains(&reply.id) {
                self.written.push(reply);
            }
            Ok(())
        })
    }
    fn lend(&mut self) -> Option<Box<dyn Any + Send>> {
        None
    }
    fn take_back(&mut self, _transaction: Box<dyn Any + Send>) -> Result<()> {
        Ok(())
    }
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let Some(seen) = self.seen.filter(|_| !self.written.is_empty()) else {
                return Ok(());
            };
            // Two passages of one effect at the same time: the second finds the stream gone on, and looks again.
            let expected = if seen.version == Version(0) {
                Expected::NoStream
            } else {
                Expected::Exact(seen.version)
            };
            self.store
                .commit(Batch::from(Append {
                    stream: seen.stream,
                    expected,
                    events: self.written,
                }))
                .await?;
            Ok(())
        })
    }
    fn rollback(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

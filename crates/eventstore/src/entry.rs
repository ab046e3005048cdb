//! A batch on its way into the log: checked against the limits, and hashed, before it meets any other.

use std::collections::HashSet;

use sagamill_bus::Headers;
use uuid::Uuid;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{Append, Batch, Error, NewEvent, Result, StreamId};

/// Most bytes of a stream's id, an event's name, topic or key.
pub(crate) const MAX_NAME: usize = 255;
/// Most bytes of a payload.
pub(crate) const MAX_PAYLOAD: usize = 1 << 20;
/// Most bytes of an event's headers, names and values: more than a message can have, which may be carried as an event.
pub(crate) const MAX_HEADERS: usize = 1 << 20;
/// Most events of a batch.
pub(crate) const MAX_EVENTS: usize = 10_000;
/// Most bytes of payload and headers of a batch.
pub(crate) const MAX_BATCH: usize = 64 << 20;

/// A batch that no limit of a database can refuse any more.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) batch: Batch,
    /// Of each append: what a repeat under the same ids is compared with.
    pub(crate) hashes: Vec<i64>,
    /// Of each append's stream. Equal for different streams once in a long time, which costs a flush and no more.
    pub(crate) streams: Vec<u64>,
    /// Payload and headers of all events.
    pub(crate) bytes: usize,
}

impl Entry {
    pub(crate) fn new(batch: Batch) -> Result<Self> {
        let events = || batch.appends.iter().flat_map(|append| &append.events);
        let bytes = events().map(NewEvent::bytes).sum();
        if bytes > MAX_BATCH || events().count() > MAX_EVENTS {
            return Err(invalid(format!(
                "a batch holds at most {MAX_EVENTS} events and {MAX_BATCH} bytes of payload and headers"
            )));
        }
        for append in &batch.appends {
            check_append(append)?;
        }
        batch.guards.iter().try_for_each(|guard| check_stream(&guard.stream))?;
        check_distinct(&batch)?;
        let hashes = batch
            .appends
            .iter()
            .map(|append| hash(&append.stream, &append.events))
            .collect();
        let streams = batch
            .appends
            .iter()
            .map(|append| xxh3_64(append.stream.as_str().as_bytes()))
            .collect();
        Ok(Self {
            batch,
            hashes,
            streams,
            bytes,
        })
    }
}

/// What a repeat is compared with: all that the caller says of the events, and in which stream.
pub(crate) fn hash(stream: &StreamId, events: &[NewEvent]) -> i64 {
    let mut hash = Xxh3::new();
    // A length before each part, and a mark before each optional one: no two appends run into the same bytes.
    let text = |hash: &mut Xxh3, text: &[u8]| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    let maybe = |hash: &mut Xxh3, part: Option<&[u8]>| match part {
        Some(part) => {
            hash.update(&[1]);
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        None => hash.update(&[0]),
    };
    text(&mut hash, stream.as_str().as_bytes());
    for event in events {
        hash.update(event.id.as_bytes());
        hash.update(&event.schema.to_le_bytes());
        text(&mut hash, event.name.as_bytes());
        maybe(&mut hash, event.topic.as_ref().map(|topic| topic.as_ref().as_bytes()));
        maybe(&mut hash, event.key.as_deref().map(str::as_bytes));
        maybe(&mut hash, event.correlation.as_ref().map(|id| &id.as_bytes()[..]));
        maybe(&mut hash, event.causation.as_ref().map(|id| &id.as_bytes()[..]));
        hash.update(&(event.headers.len() as u64).to_le_bytes());
        for (name, value) in event.headers.iter() {
            text(&mut hash, name.as_bytes());
            text(&mut hash, value.as_bytes());
        }
        text(&mut hash, &event.payload);
    }
    hash.digest().cast_signed()
}

/// The limits of one append.
pub(crate) fn check_append(append: &Append) -> Result<()> {
    check_stream(&append.stream)?;
    if append.events.is_empty() {
        return Err(invalid(format!("an append to `{}` has no events", append.stream)));
    }
    append.events.iter().try_for_each(check_event)
}

fn check_event(event: &NewEvent) -> Result<()> {
    check_name("an event's name", &event.name)?;
    if event.name.is_empty() {
        return Err(invalid("an event's name is empty".to_owned()));
    }
    if let Some(topic) = &event.topic {
        check_name("a topic", topic.as_ref())?;
    }
    if let Some(key) = &event.key {
        check_name("a message key", key)?;
    }
    if event.payload.len() > MAX_PAYLOAD {
        let (name, size) = (&event.name, event.payload.len());
        return Err(invalid(format!(
            "the payload of `{name}` has {size} bytes; at most {MAX_PAYLOAD} are stored"
        )));
    }
    let headers = bytes(&event.headers);
    if headers > MAX_HEADERS {
        return Err(invalid(format!(
            "the headers of `{}` have {headers} bytes; at most {MAX_HEADERS} are stored",
            event.name
        )));
    }
    Ok(())
}

/// What headers weigh.
pub(crate) fn bytes(headers: &Headers) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.len()).sum()
}

impl NewEvent {
    /// What it weighs.
    fn bytes(&self) -> usize {
        self.payload.len() + bytes(&self.headers)
    }
}

fn check_stream(stream: &StreamId) -> Result<()> {
    if stream.as_str().is_empty() {
        return Err(invalid("a stream's id is empty".to_owned()));
    }
    check_name("a stream's id", stream.as_str())
}

fn check_name(what: &str, name: &str) -> Result<()> {
    if name.len() > MAX_NAME {
        return Err(invalid(format!(
            "{what} has {} bytes; at most {MAX_NAME} are stored",
            name.len()
        )));
    }
    if name.contains('\0') {
        return Err(invalid(format!("{what} has a NUL in it")));
    }
    Ok(())
}

/// A stream at most once, and an event id at most once.
fn check_distinct(batch: &Batch) -> Result<()> {
    let mut streams: HashSet<&StreamId, foldhash::fast::RandomState> = HashSet::default();
    if let Some(twice) = batch.appends.iter().find(|append| !streams.insert(&append.stream)) {
        return Err(invalid(format!("stream `{}` occurs twice in a batch", twice.stream)));
    }
    let mut ids: HashSet<Uuid, foldhash::fast::RandomState> = HashSet::default();
    let mut all = batch.appends.iter().flat_map(|append| &append.events);
    all.find(|event| !ids.insert(event.id))
        .map_or(Ok(()), |twice| Err(Error::IdReused(twice.id)))
}

fn invalid(what: String) -> Error {
    Error::Invalid { what }
}

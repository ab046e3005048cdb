//! What stands in each payload of a bench: of which run it is, its number there, and when it was handed to the bus.

use std::time::{Duration, Instant};

use uuid::Uuid;

/// The bytes of it: the least that a payload has.
pub(super) const STAMP: usize = 32;

/// One run of a bench.
#[derive(Debug, Clone)]
pub(super) struct Run {
    id: Uuid,
    begun: Instant,
    messages: u32,
}

/// A message of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) number: u32,
    /// Since the run began.
    pub(super) sent: Duration,
}

impl Run {
    pub(super) fn begin(messages: u32) -> Self {
        Self {
            id: Uuid::now_v7(),
            begun: Instant::now(),
            messages,
        }
    }
    pub(super) fn messages(&self) -> u32 {
        self.messages
    }
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
    /// A payload that is sent now, of so many bytes.
    pub(super) fn payload(&self, number: u32, size: usize) -> Vec<u8> {
        let sent = u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut payload = Vec::with_capacity(size.max(STAMP));
        payload.extend_from_slice(self.id.as_bytes());
        payload.extend_from_slice(&u64::from(number).to_be_bytes());
        payload.extend_from_slice(&sent.to_be_bytes());
        payload.resize(size.max(STAMP), b'.');
        payload
    }
    /// None: it is of another run, or of somebody else.
    pub(super) fn read(&self, payload: &[u8]) -> Option<Stamp> {
        let rest = payload.strip_prefix(self.id.as_bytes())?;
        let (number, rest) = rest.split_first_chunk()?;
        let (sent, _) = rest.split_first_chunk()?;
        let number = u32::try_from(u64::from_be_bytes(*number)).ok()?;
        let sent = Duration::from_nanos(u64::from_be_bytes(*sent));
        (number < self.messages).then_some(Stamp { number, sent })
    }
}

#[cfg(test)]
mod tests {
    use super::{Run, STAMP};

    #[test]
    fn a_run_knows_its_own_messages_alone() {
        let (run, other) = (Run::begin(10), Run::begin(10));
        let payload = run.payload(7, 100);
        assert_eq!(payload.len(), 100);
        assert_eq!(run.read(&payload).map(|stamp| stamp.number), Some(7));
        assert_eq!(other.read(&payload), None);
        assert_eq!(run.read(&run.payload(10, STAMP)), None, "there is no such number");
        assert_eq!(run.read(b"order"), None);
    }
}

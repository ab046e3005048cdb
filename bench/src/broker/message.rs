//! What is sent: a payload that says which message it is, and when it was sent.

use std::time::Duration;

use anyhow::Context as _;

const PAYLOAD_BYTES: usize = 256;
/// As many as a batch has messages: of one call no two share a key, whose order would keep one of them waiting for the other.
const KEYS: u64 = 1_000;

/// One message of a round.
#[derive(Debug)]
pub(crate) struct Numbered {
    /// From 0 on, without gaps.
    pub(crate) number: u64,
    pub(crate) payload: Vec<u8>,
}

impl Numbered {
    /// A message that is sent at this time since the round's beginning.
    pub(crate) fn new(number: u64, sent: Duration) -> Self {
        let mut payload = vec![7; PAYLOAD_BYTES];
        let sent = u64::try_from(sent.as_nanos()).unwrap_or(u64::MAX);
        payload[..8].copy_from_slice(&number.to_le_bytes());
        payload[8..16].copy_from_slice(&sent.to_le_bytes());
        Self { number, payload }
    }
    pub(crate) fn key(&self) -> String {
        (self.number % KEYS).to_string()
    }
}

/// The number of a message that came, and when it was sent.
pub(crate) fn read(payload: &[u8]) -> anyhow::Result<(u64, Duration)> {
    let (number, rest) = payload.split_first_chunk().context("a message without a number")?;
    let sent = rest.first_chunk().context("a message without a time")?;
    Ok((
        u64::from_le_bytes(*number),
        Duration::from_nanos(u64::from_le_bytes(*sent)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_which_message_it_is_and_when_it_was_sent() {
        let sent = Duration::from_nanos(987_654_321);
        let message = Numbered::new(2_007, sent);
        assert_eq!((message.payload.len(), message.key().as_str()), (PAYLOAD_BYTES, "7"));
        assert_eq!(read(&message.payload).unwrap(), (2_007, sent));
        assert!(read(b"short").is_err());
    }
}

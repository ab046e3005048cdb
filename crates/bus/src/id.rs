//! Names of messages: time-ordered, and derived from their cause where a decision made them.

use std::{cell::Cell, time::SystemTime};

use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};
use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_seed};

/// Names one message for ever, the same on each of its deliveries; a step that asks again sends another message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub Uuid);

impl MessageId {
    /// A new id (UUID v7): for what nobody would decide a second time. Unique, but no secret.
    #[must_use]
    pub fn random() -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        Self(Builder::from_unix_timestamp_millis(millis, &noise()).into_uuid())
    }
    /// The id of what was decided from `cause` on `stream`, as its `ordinal`-th outcome. The same decision taken a second
    /// time, in another process or years later, makes the same id.
    ///
    /// It is a UUID v8 whose first 48 bits are those of the cause where that is a v7 or v8 (its time in milliseconds), so
    /// that an index keeps growing at its right edge; else zero. The other 10 bytes are the first ones of the XXH3 128-bit
    /// hash (seed 0, big-endian) over the cause's 16 bytes, the ordinal as 4 bytes big-endian, and the stream's UTF-8;
    /// version and variant overwrite six of their bits.
    /// This is part of the stored format: it never changes.
    #[must_use]
    pub fn derived(cause: Uuid, stream: &str, ordinal: u32) -> Self {
        let mut hash = Xxh3::new();
        hash.update(cause.as_bytes());
        hash.update(&ordinal.to_be_bytes());
        hash.update(stream.as_bytes());
        let hash = hash.digest128().to_be_bytes();
        let mut bytes = [0; 16];
        if matches!(cause.get_version_num(), 7 | 8) {
            bytes[..6].copy_from_slice(&cause.as_bytes()[..6]);
        }
        bytes[6..].copy_from_slice(&hash[..10]);
        Self(Uuid::new_v8(bytes))
    }
}

/// Ten bytes that do not come again: a hash of a counter under a seed of this thread's own. Asking the system for each id
/// would be the largest part of the cost of a message in memory.
fn noise() -> [u8; 10] {
    thread_local! {
        static SEED: [u8; 16] = Uuid::new_v4().into_bytes();
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }
    let count = COUNT.get().wrapping_add(1);
    COUNT.set(count);
    let hash = SEED.with(|seed| xxh3_128_with_seed(seed, count)).to_be_bytes();
    let mut bytes = [0; 10];
    bytes.copy_from_slice(&hash[..10]);
    bytes
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use uuid::{Uuid, uuid};

    use super::MessageId;

    const CAUSE: Uuid = uuid!("01945c3e-9b7a-7c11-8d3f-2a4b5c6d7e8f");

    #[test]
    fn a_derived_id_never_changes() {
        let golden = [
            (CAUSE, "saga-place-order/42", 0, "01945c3e-9b7a-8234-bacb-203e783c1382"),
            (CAUSE, "saga-place-order/42", 1, "01945c3e-9b7a-824d-8198-fb1faa13957d"),
            (CAUSE, "", 0, "01945c3e-9b7a-8e57-9004-4d894238c980"),
            (
                uuid!("67e55044-10b1-426f-9247-bb680e5fe0c8"),
                "saga-place-order/42",
                0,
                "00000000-0000-892d-8b51-3e13f0d3b623",
            ),
        ];
        for (cause, stream, ordinal, id) in golden {
            assert_eq!(MessageId::derived(cause, stream, ordinal).to_string(), id);
        }
    }

    #[test]
    fn a_derived_id_keeps_the_time_of_its_first_cause() {
        let first = MessageId::derived(CAUSE, "order-1", 0);
        let second = MessageId::derived(first.0, "order-1", 0);
        assert_eq!(first.0.get_version_num(), 8);
        assert_eq!(first.0.as_bytes()[..6], CAUSE.as_bytes()[..6]);
        assert_eq!(second.0.as_bytes()[..6], CAUSE.as_bytes()[..6]);
        assert_ne!(first, second);
    }

    #[test]
    fn new_ids_are_v7_and_never_the_same() {
        let make = || (0..20_000).map(|_| MessageId::random()).collect::<Vec<_>>();
        let other = std::thread::spawn(make);
        let mut ids = make();
        assert!(ids.iter().all(|id| id.0.get_version_num() == 7));
        ids.extend(other.join().unwrap());
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 40_000);
    }

    #[test]
    fn each_part_of_the_cause_counts() {
        let base = MessageId::derived(CAUSE, "order-1", 0);
        assert_eq!(base, MessageId::derived(CAUSE, "order-1", 0));
        assert_ne!(base, MessageId::derived(CAUSE, "order-1", 1));
        assert_ne!(base, MessageId::derived(CAUSE, "order-2", 0));
        assert_ne!(base, MessageId::derived(Uuid::nil(), "order-1", 0));
    }
}

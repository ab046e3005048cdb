//! New ids of a memory log: the system's, or drawn from a seed so that a run can be repeated.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use uuid::{Builder, Uuid};
use xxhash_rust::xxh3::xxh3_128_with_seed;

#[derive(Debug)]
pub(super) enum Ids {
    /// Never the same again.
    Random,
    /// A hash of the seed and of how many there were before.
    Seeded { seed: u64, drawn: AtomicU64 },
}

impl Ids {
    pub(super) fn seeded(seed: u64) -> Self {
        Self::Seeded {
            seed,
            drawn: AtomicU64::new(0),
        }
    }
    /// A UUID v7 of this time, as the other logs give it.
    pub(super) fn next(&self, now: Timestamp) -> Uuid {
        let Self::Seeded { seed, drawn } = self else {
            return Uuid::now_v7();
        };
        let drawn = drawn.fetch_add(1, Ordering::Relaxed);
        let mut noise = [0; 10];
        noise.copy_from_slice(&xxh3_128_with_seed(&drawn.to_be_bytes(), *seed).to_be_bytes()[..10]);
        let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
        Builder::from_unix_timestamp_millis(millis, &noise).into_uuid()
    }
}

//! Who is at a log: told by advisory locks, which end with their sessions, and so with their process, however that ends.
//!
//! A lease says that its owner lived a while ago, so that after a crash everybody would wait for its end. Every session of a
//! store holds the store's number as a shared lock, and the ids of owners that it makes carry the number: whoever can have
//! it alone knows that none of the sessions is left. Where that is wrong, because all sessions were cut at once and none is
//! made again yet, fences keep the owner from writing under a lease that it has lost.

use uuid::{Builder, Uuid, Variant};

/// A store's number among all that are at a database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Presence(u64);

impl Presence {
    pub(super) fn new() -> Self {
        Self(Uuid::new_v4().as_u64_pair().1)
    }
    /// Holds the number in a session, for as long as that lasts. Waits for nobody but one who tries whether he can have it.
    pub(super) fn hold(self) -> String {
        format!("SELECT pg_advisory_lock_shared({})", self.0.cast_signed())
    }
    /// An owner of this store, as `es.is_gone` knows it.
    pub(super) fn new_owner(self) -> Uuid {
        let mut bytes = Uuid::new_v4().into_bytes();
        bytes[8..].copy_from_slice(&self.0.to_be_bytes());
        let mut id = Builder::from_custom_bytes(bytes);
        id.set_variant(Variant::RFC4122);
        id.into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_of_a_store_share_its_number_and_are_told_apart() {
        let presence = Presence::new();
        let (one, two) = (presence.new_owner(), presence.new_owner());
        assert_ne!(one, two);
        for owner in [one, two] {
            assert_eq!(owner.get_version_num(), 8);
            assert_eq!(owner.as_u64_pair().1, presence.0);
            assert!(presence.hold().contains(&presence.0.cast_signed().to_string()));
        }
    }
}

//! The right to work on one shard of a subscription, for a time.

use uuid::Uuid;

/// The right to work on one shard of a subscription. A write under it is refused once another owner, or the same one with
/// another fence, has taken over; owner and number are compared, because a lost tail can bring a number back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Lease {
    /// The subscription.
    pub name: String,
    /// Its shard.
    pub shard: u16,
    /// The process that holds it.
    pub owner: Uuid,
    /// Counts the take-overs.
    pub fence: i64,
}

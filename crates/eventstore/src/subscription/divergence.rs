//! Is this still the log that a checkpoint was taken in? Told by the event at it; answered for before anything is read.

use crate::{Anchor, Error, Position, Result, backend::Backend};

/// Compares a place that a shard of a subscription has come to with the log.
///
/// # Errors
/// [`Error::LogDiverged`] where the log has no event there, or another one.
pub(super) async fn check(backend: &dyn Backend, name: &str, shard: u16, at: Anchor) -> Result<()> {
    if holds(backend, at).await? {
        return Ok(());
    }
    let common = common(backend, name, shard).await?.position;
    let name = name.to_owned();
    Err(Error::LogDiverged { name, at, common })
}

/// What an operator wants with a subscription whose log went another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on at the last place that both histories share.
    Rewind,
    /// Go on behind what was read, as if this history had been read that far.
    Accept,
}

/// Moves the diverged checkpoints of a subscription, and answers how many there were. Whoever works under a lease of one
/// loses it.
pub(crate) async fn settle(backend: &dyn Backend, name: &str, verdict: Verdict) -> Result<usize> {
    let mut moved = 0;
    let checkpoints = backend.checkpoints().await?;
    for checkpoint in checkpoints.into_iter().filter(|checkpoint| checkpoint.name == name) {
        if holds(backend, checkpoint.at).await? {
            continue;
        }
        let to = match verdict {
            Verdict::Rewind => common(backend, name, checkpoint.shard).await?,
            Verdict::Accept => as_far(backend, checkpoint.at.position).await?,
        };
        tracing::warn!(
            subscription = name,
            shard = checkpoint.shard,
            from = %checkpoint.at.position,
            to = %to.position,
            ?verdict,
            "a checkpoint of a log that went another way was moved"
        );
        backend.reset(name, checkpoint.shard, to).await?;
        moved += 1;
    }
    Ok(moved)
}

/// The same place in this log, or its end where it is shorter.
async fn as_far(backend: &dyn Backend, position: Position) -> Result<Anchor> {
    let head = backend.head().await?;
    if position >= head.position {
        return Ok(head);
    }
    let event = backend.event_at(position).await?;
    Ok(Anchor { position, event })
}

/// The newest anchor of a shard that is in this log; the beginning where none is.
async fn common(backend: &dyn Backend, name: &str, shard: u16) -> Result<Anchor> {
    for anchor in backend.anchors(name, shard).await? {
        if holds(backend, anchor).await? {
            return Ok(anchor);
        }
    }
    Ok(Anchor::default())
}

/// Whether the log has this event at this position.
async fn holds(backend: &dyn Backend, at: Anchor) -> Result<bool> {
    Ok(at.position == Position(0) || at.event.is_some() && backend.event_at(at.position).await? == at.event)
}

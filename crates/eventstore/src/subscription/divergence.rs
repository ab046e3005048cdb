//! Is this still the log that a checkpoint was taken in? Told by the event at it; answered for before anything is read.

use crate::{Anchor, Error, Lease, Position, Result, backend::Backend};

/// Compares a checkpoint with the log.
///
/// # Errors
/// [`Error::LogDiverged`] where the log has no event there, or another one.
pub(super) async fn check(backend: &dyn Backend, lease: &Lease, at: Anchor) -> Result<()> {
    if is_in(backend, at).await? {
        return Ok(());
    }
    let common = common(backend, &lease.name, lease.shard).await?.position;
    Err(Error::LogDiverged {
        name: lease.name.clone(),
        at,
        common,
    })
}

/// Puts the diverged checkpoints of a subscription to the last place that they share with this log. Whoever works under a
/// lease loses it.
pub(crate) async fn rewind(backend: &dyn Backend, name: &str) -> Result<()> {
    for checkpoint in backend
        .checkpoints()
        .await?
        .into_iter()
        .filter(|checkpoint| checkpoint.name == name)
    {
        if is_in(backend, checkpoint.at).await? {
            continue;
        }
        let to = common(backend, name, checkpoint.shard).await?;
        tracing::warn!(
            subscription = name,
            shard = checkpoint.shard,
            from = %checkpoint.at.position,
            to = %to.position,
            "checkpoint rewound to the last place that it shares with the log"
        );
        backend.reset(name, checkpoint.shard, to).await?;
    }
    Ok(())
}

/// The newest anchor of a shard that is in this log; the beginning where none is.
async fn common(backend: &dyn Backend, name: &str, shard: u16) -> Result<Anchor> {
    for anchor in backend.anchors(name, shard).await? {
        if is_in(backend, anchor).await? {
            return Ok(anchor);
        }
    }
    Ok(Anchor::default())
}

async fn is_in(backend: &dyn Backend, at: Anchor) -> Result<bool> {
    Ok(at.position == Position(0) || at.event.is_some() && backend.event_at(at.position).await? == at.event)
}

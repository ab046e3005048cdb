//! Tells other processes that the log has grown: by NOTIFY, a statement of its own, after the commit and never in it.
//!
//! NOTIFY takes a lock of the whole database at its commit; one that comes now and then costs nobody anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sqlx::PgConnection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::log::Shared;

/// The pause between two: what grows meanwhile is told with the next one.
const PAUSE: Duration = Duration::from_millis(10);

/// What the ringer has to tell.
#[derive(Debug, Default)]
pub(super) struct Rung {
    head: AtomicI64,
    more: Notify,
}

impl Rung {
    pub(super) fn ring_at(&self, head: i64) {
        if self.head.swap(head, Ordering::AcqRel) != head {
            self.more.notify_one();
        }
    }
}

/// The log's channel.
pub(super) fn channel(log: Uuid) -> String {
    format!("sagamill_{}", log.simple())
}

/// Runs until it is stopped.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let channel = channel(shared.id);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.rung.more.notified() => (),
        }
        let text = format!(
            "{} {}",
            shared.rung.head.load(Ordering::Acquire),
            shared.instance.simple()
        );
        let tell = |mut connection: PgConnection| {
            let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(&channel).bind(&text);
            async move {
                let told = notify.execute(&mut connection).await;
                (connection, told)
            }
        };
        let told = shared.readers.run(tell).await;
        if let Err(error) = told {
            // They look by themselves, a little later.
            tracing::debug!(%error, "other processes could not be told that the log has grown");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => (),
        }
    }
}

/// What another process has told: the head; none, where it was this one.
pub(super) fn told(text: &str, instance: Uuid) -> Option<i64> {
    let (head, of) = text.split_once(' ')?;
    let own = of.parse::<Uuid>().is_ok_and(|of| of == instance);
    head.parse().ok().filter(|_| !own)
}

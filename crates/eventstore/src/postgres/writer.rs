//! The task that owns the writer's connection: takes flushes one after the other, and sequences what is staged in between.

use std::sync::Arc;

use sqlx::PgConnection;
use tokio::sync::{mpsc, oneshot};

use super::{
    flush::{Answers, Flusher},
    log::Shared,
};
use crate::entry::Entry;

/// A flush, and where its answers go.
pub(super) struct Job {
    pub(super) entries: Vec<Entry>,
    pub(super) answers: oneshot::Sender<Answers>,
}

/// Works until nobody can send any more; does what has been asked for by then.
pub(super) async fn run(shared: Arc<Shared>, connection: PgConnection, mut jobs: mpsc::Receiver<Job>) {
    let mut flusher = Flusher::new(shared.clone(), connection);
    loop {
        let job = tokio::select! {
            biased;
            job = jobs.recv() => match job {
                Some(job) => Some(job),
                None => break,
            },
            () = shared.staging.due() => None,
        };
        let Some(Job { entries, answers }) = job else {
            flusher.drain().await;
            continue;
        };
        let answered = flusher.flush(&entries).await;
        // A caller that has gone away does not want to know.
        let _ = answers.send(answered);
    }
    flusher.drain().await;
    flusher.close().await;
}

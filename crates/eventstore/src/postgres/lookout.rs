//! Looks out for what other processes do: hears their NOTIFY, and looks at the log now and then all the same, because one
//! may be lost, and a pooler lets none through.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    PgConnection,
    postgres::{PgListener, PgPoolOptions},
};
use tokio_util::sync::CancellationToken;

use super::{connector::Backoff, log::Shared, readers::Done, ringer, time::At};
use crate::{Position, Result};

/// How often the log is looked at while anybody waits for it to grow.
const LOOK: Duration = Duration::from_millis(250);
/// And while nobody does: the clock must be followed, and nothing that was staged may lie about.
const LOOK_IDLE: Duration = Duration::from_secs(5);
/// How long the listener's connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

const STATE: &str = "SELECT clock_timestamp(), coalesce((SELECT pos FROM es.event ORDER BY pos DESC LIMIT 1), 0),
    EXISTS (SELECT FROM es.staged)";

/// Looks until it is stopped.
pub(super) async fn look(shared: Arc<Shared>, stop: CancellationToken) {
    let mut is_away = false;
    loop {
        let looked = look_once(&shared).await;
        shared.looks.send_replace(looked.is_ok());
        match looked {
            Ok(()) => {
                // Whoever pauses because the database was away need not wait any longer; it may be another one now.
                if std::mem::take(&mut is_away) {
                    shared.news.doubt();
                    shared.bell.ring();
                }
            }
            Err(error) => {
                is_away = true;
                // What waits asks the database by itself, and says what it is told.
                tracing::debug!(%error, "the log could not be looked at");
            }
        }
        let pause = if shared.bell.has_listeners() { LOOK } else { LOOK_IDLE };
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.sooner.notified() => (),
            () = tokio::time::sleep(pause) => (),
        }
    }
}

/// The clock, the head, and what was staged by whoever.
async fn look_once(shared: &Shared) -> Result<()> {
    let ((said, head, staged), asked, heard) = shared.readers.run(ask).await?;
    shared.clock.observe(said.0, asked, heard);
    if staged {
        shared.staging.ask();
    }
    if Position(head) != shared.bell.last() {
        shared.ring_at(head);
    }
    Ok(())
}

async fn ask(mut connection: PgConnection) -> Done<((At, i64, bool), Instant, Instant)> {
    let asked = Instant::now();
    let state = sqlx::query_as(STATE).fetch_one(&mut connection).await;
    (connection, state.map(|state| (state, asked, Instant::now())))
}

/// Listens until it is stopped. Whenever it begins to, something may have been missed.
pub(super) async fn listen(shared: Arc<Shared>, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        let heard = tokio::select! {
            () = stop.cancelled() => return,
            heard = hear(&shared, &mut backoff) => heard,
        };
        if let Err(error) = heard {
            tracing::debug!(%error, "the listener's connection was lost; another one is made");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff.next()) => (),
        }
    }
}

async fn hear(shared: &Shared, backoff: &mut Backoff) -> sqlx::Result<()> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT)
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect({
            let connector = shared.connector.clone();
            move |connection, _| {
                let connector = connector.clone();
                Box::pin(async move { connector.set_up(connection).await })
            }
        })
        .connect_lazy_with(shared.connector.options().clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(&ringer::channel(shared.id)).await?;
    shared.sooner.notify_one();
    *backoff = Backoff::default();
    loop {
        match listener.try_recv().await? {
            Some(told) => {
                if let Some(head) = ringer::told(told.payload(), shared.instance) {
                    shared.ring_at(head);
                }
            }
            // The connection was lost, and made again.
            None => shared.sooner.notify_one(),
        }
    }
}

//! The log's seam, on PostgreSQL.

use std::{
    any::Any,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use jiff::Timestamp;
use sqlx::{PgConnection, PgPool};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    clock::Clock, connector::Connector, health, join, lookout, news::News, presence::Presence, read, readers::Readers,
    ringer, staging::Staging, writer,
};
use crate::{
    Anchor, Append, Error, Health, Position, Receipt, Recorded, Result,
    backend::{Join, Log, Page, Query, Turn},
    bell::{Bell, Listener},
    entry::Entry,
    metric_definitions as metric,
};

/// Flushes that wait for the writer: the appender sends one at a time.
const JOBS: usize = 4;
/// How long a wait for a time sleeps before it looks at the clock again, which may have been set.
const NAP: Duration = Duration::from_secs(5);
/// How old the clock's last reading may be when something falls due by it.
const FRESH: Duration = Duration::from_secs(1);

/// What the store and its tasks share.
pub(super) struct Shared {
    pub(super) id: Uuid,
    /// This store among all that are on the log.
    pub(super) instance: Uuid,
    pub(super) connector: Arc<Connector>,
    pub(super) readers: Readers,
    pub(super) clock: Clock,
    pub(super) staging: Staging,
    pub(super) bell: Bell,
    pub(super) news: News,
    pub(super) rung: ringer::Rung,
    /// The lookout looks at once.
    pub(super) sooner: Notify,
    /// It has looked; and whether the database has answered.
    pub(super) looks: watch::Sender<bool>,
}

impl Shared {
    /// A flush or a drain has left the head here.
    pub(super) fn grown(&self, head: i64) {
        if Position(head) != self.bell.last() {
            self.ring_at(head);
        }
        self.rung.ring_at(head);
    }
    /// The log has come to this position: wakes the readers of this process.
    pub(super) fn ring_at(&self, head: i64) {
        self.news.has_come_to(Position(head));
        self.bell.ring_at(Position(head));
    }
    pub(super) fn drained(&self, taken: i32, failed: i32) {
        metrics::counter!(metric::SEQUENCED).increment(u64::from((taken - failed).unsigned_abs()));
        if failed > 0 {
            metrics::counter!(metric::SET_ASIDE).increment(u64::from(failed.unsigned_abs()));
            tracing::error!(
                events = failed,
                "staged events can have no positions and were set aside; see es.staged_failed"
            );
        }
    }
}

pub(crate) struct PostgresLog {
    pub(super) shared: Arc<Shared>,
    /// None: it is closed.
    jobs: Mutex<Option<mpsc::Sender<writer::Job>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    listens: AtomicBool,
    runtime: Handle,
    /// The store's own pool, where it was not given one.
    pool: Option<PgPool>,
}

impl PostgresLog {
    /// Starts its tasks.
    pub(super) fn new(shared: Shared, writer: PgConnection, pool: Option<PgPool>) -> Self {
        let (shared, tasks, stop) = (Arc::new(shared), TaskTracker::new(), CancellationToken::new());
        let (jobs, queue) = mpsc::channel(JOBS);
        tasks.spawn(writer::run(shared.clone(), writer, queue));
        tasks.spawn(ringer::run(shared.clone(), stop.clone()));
        tasks.spawn(lookout::look(shared.clone(), stop.clone()));
        Self {
            shared,
            jobs: Mutex::new(Some(jobs)),
            tasks,
            stop,
            listens: AtomicBool::new(false),
            runtime: Handle::current(),
            pool,
        }
    }

    async fn store(&self, entries: Vec<Entry>) -> Vec<Result<Vec<Receipt>>> {
        let count = entries.len();
        let all = |error: Error| vec![Err(error); count];
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(jobs) = jobs else { return all(Error::ShutDown) };
        let (answers, answered) = oneshot::channel();
        if jobs.send(writer::Job { entries, answers }).await.is_err() {
            return all(Error::ShutDown);
        }
        // The writer answers all it has taken; it ends without an answer only where its runtime was torn down around it.
        answered
            .await
            .unwrap_or_else(|lost| all(Error::Unknown(Arc::new(lost))))
    }

    async fn join(&self, connection: &mut (dyn Any + Send), append: Append, how: Join) -> Result<()> {
        let what = "this log is in a PostgreSQL database: it is joined in a transaction on that";
        let connection: &mut PgConnection = connection
            .downcast_mut()
            .ok_or_else(|| Error::Invalid { what: what.to_owned() })?;
        match how {
            Join::Checked => join::append(connection, append).await,
            Join::Staged => {
                let transaction = join::stage(connection, &append).await?;
                self.shared.staging.expect(transaction);
                Ok(())
            }
        }
    }

    async fn sleep(&self, due: Timestamp) {
        let clock = &self.shared.clock;
        let mut steps = clock.steps();
        loop {
            let left = Duration::try_from(due.duration_since(clock.now())).unwrap_or_default();
            if left.is_zero() {
                // The database may have set its clock since: it is asked, or it is away, and then nothing that is due can be done.
                let stale = clock.age() > FRESH && self.looked().await;
                if !stale || clock.now() >= due {
                    return;
                }
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(NAP)) => (),
                _ = steps.changed() => (),
            }
        }
    }
    /// Has the lookout look, and answers whether the database has answered. Cancel-safe: a question that is given up would take
    /// its connection with it, and whoever waits for a time gives up often.
    async fn looked(&self) -> bool {
        let mut looks = self.shared.looks.subscribe();
        self.shared.sooner.notify_one();
        tokio::select! {
            () = self.stop.cancelled() => false,
            looked = looks.changed() => looked.is_ok() && *looks.borrow(),
        }
    }
}

impl Drop for PostgresLog {
    fn drop(&mut self) {
        // The writer ends when its queue is gone.
        self.stop.cancel();
    }
}

impl Log for PostgresLog {
    fn name(&self) -> &'static str {
        "postgres"
    }
    fn log_id(&self) -> Uuid {
        self.shared.id
    }
    fn new_owner(&self) -> Uuid {
        let presence = self.shared.connector.presence();
        presence.map_or_else(|| self.new_id(), Presence::new_owner)
    }
    fn is_gone(&self, owner: Uuid) -> BoxFuture<'_, Result<bool>> {
        async move {
            let asker = self.new_owner();
            let ask = || sqlx::query("SELECT es.is_gone($1, $2)").bind(owner).bind(asker);
            self.row(ask).await.map(|(gone,)| gone)
        }
        .boxed()
    }
    fn flush(&self, entries: Vec<Entry>) -> BoxFuture<'_, Vec<Result<Vec<Receipt>>>> {
        self.store(entries).boxed()
    }
    fn append_in<'a>(
        &'a self,
        connection: &'a mut (dyn Any + Send),
        append: Append,
        how: Join,
    ) -> BoxFuture<'a, Result<Vec<Recorded>>> {
        async move {
            self.join(connection, append, how).await?;
            Ok(Vec::new())
        }
        .boxed()
    }
    fn sequenced(&self) -> BoxFuture<'_, ()> {
        self.shared.staging.sequenced().boxed()
    }
    fn read(&self, query: Query) -> BoxFuture<'_, Result<Page>> {
        let Shared {
            news, readers, bell, ..
        } = &*self.shared;
        news.read(readers, bell.last(), query).boxed()
    }
    fn head(&self) -> BoxFuture<'_, Result<Anchor>> {
        self.shared.readers.run(read::head).boxed()
    }
    fn event_at(&self, position: Position) -> BoxFuture<'_, Result<Option<Uuid>>> {
        let at = move |connection| read::event_at(connection, position);
        self.shared.readers.run(at).boxed()
    }
    fn since(&self, time: Timestamp) -> BoxFuture<'_, Result<Position>> {
        let since = move |connection| read::since(connection, time);
        self.shared.readers.run(since).boxed()
    }
    fn turn(&self) -> BoxFuture<'_, Turn> {
        std::future::ready(Turn::default()).boxed()
    }
    fn wake(&self) -> Listener {
        let is_first = !self.shared.bell.has_listeners();
        let listener = self.shared.bell.listen();
        if !self.listens.swap(true, Ordering::AcqRel) && !self.shared.connector.is_pooled() {
            let listen = lookout::listen(self.shared.clone(), self.stop.clone());
            self.tasks.spawn_on(listen, &self.runtime);
        }
        if is_first {
            // What was appended while nobody listened was not looked at.
            self.shared.sooner.notify_one();
        }
        listener
    }
    fn ring(&self) {
        self.shared.staging.ask();
    }
    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
    fn health(&self) -> BoxFuture<'_, Result<Health>> {
        async {
            let mut health = self.shared.readers.run(health::health).await?;
            let pooler = if self.shared.connector.is_pooled() {
                "transaction"
            } else {
                "none"
            };
            health
                .settings
                .push(health::setting("pooler".to_owned(), pooler.to_owned()));
            Ok(health)
        }
        .boxed()
    }
    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'_, ()> {
        self.sleep(due).boxed()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.stop.cancel();
            self.tasks.close();
            self.tasks.wait().await;
            self.shared.readers.close().await;
            if let Some(pool) = &self.pool {
                pool.close().await;
            }
        }
        .boxed()
    }
}

//! Group commit: many callers share one commit.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, OnceLock},
    time::Instant,
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Error, Receipt, Result, backend::Backend, entry::Entry, metric_definitions as metric};

/// Most batches that wait in the queue; beyond it, callers wait to get in.
const QUEUE: usize = 1_024;
/// Most batches of a flush.
const FLUSH: usize = 512;
/// Most payload of a flush, unless a single batch has more.
const FLUSH_BYTES: usize = 16 << 20;
/// How often other tasks are let run before a flush is closed: those just answered come back with their next batch.
const YIELDS: usize = 3;

/// One task per store: while a flush is in flight, the next one fills.
pub(crate) struct Appender {
    backend: Arc<dyn Backend>,
    /// The task starts with the first append: opening a store needs no runtime.
    queue: OnceLock<mpsc::Sender<Request>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

struct Request {
    entry: Entry,
    answer: oneshot::Sender<Result<Vec<Receipt>>>,
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appender").finish_non_exhaustive()
    }
}

impl Appender {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            queue: OnceLock::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }
    /// Stores a batch. Dropped while it waits, the batch may still be stored.
    pub(crate) async fn append(&self, entry: Entry) -> Result<Vec<Receipt>> {
        if self.stop.is_cancelled() {
            return Err(Error::ShutDown);
        }
        let (answer, answered) = oneshot::channel();
        self.queue()
            .send(Request { entry, answer })
            .await
            .map_err(|_| Error::ShutDown)?;
        // The task answers all it has taken; it ends without an answer only where its runtime was torn down around it.
        answered
            .await
            .unwrap_or_else(|ended| Err(Error::Unknown(Arc::new(ended))))
    }
    /// Takes nothing more, and ends when all that was taken is answered.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn queue(&self) -> &mpsc::Sender<Request> {
        self.queue.get_or_init(|| {
            let (sender, queue) = mpsc::channel(QUEUE);
            let flusher = Flusher {
                backend: self.backend.clone(),
                queue,
                waiting: VecDeque::new(),
            };
            self.tasks.spawn(flusher.run(self.stop.clone()));
            sender
        })
    }
}

struct Flusher {
    backend: Arc<dyn Backend>,
    queue: mpsc::Receiver<Request>,
    /// Taken from the queue in order; at most [`QUEUE`].
    waiting: VecDeque<Request>,
}

impl Flusher {
    async fn run(mut self, stop: CancellationToken) {
        while self.gather(&stop).await {
            let requests = self.next_flush();
            metrics::histogram!(metric::FLUSH_BATCHES).record(requests.len() as f64);
            let (entries, answers): (Vec<_>, Vec<_>) = requests.into_iter().map(|r| (r.entry, r.answer)).unzip();
            let began = Instant::now();
            let results = self.backend.flush(entries).await;
            measure(&results, began);
            debug_assert_eq!(results.len(), answers.len(), "one result for each batch");
            for (answer, result) in answers.into_iter().zip(results) {
                // A caller that has gone away does not want to know.
                let _ = answer.send(result);
            }
        }
    }

    /// Waits for something to do; false: there will be nothing more.
    async fn gather(&mut self, stop: &CancellationToken) -> bool {
        if self.waiting.is_empty() {
            let first = tokio::select! {
                biased;
                first = self.queue.recv() => first,
                () = stop.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                    self.queue.recv().await
                }
            };
            let Some(first) = first else { return false };
            self.waiting.push_back(first);
        }
        for _ in 0..YIELDS {
            self.drain();
            tokio::task::yield_now().await;
        }
        self.drain();
        true
    }

    fn drain(&mut self) {
        while self.waiting.len() < QUEUE {
            let Ok(request) = self.queue.try_recv() else { return };
            self.waiting.push_back(request);
        }
    }

    /// In order of arrival; what meets a stream again waits for the next flush, and so does whatever meets *its* streams.
    fn next_flush(&mut self) -> Vec<Request> {
        let mut met: HashSet<u64, foldhash::fast::RandomState> = HashSet::default();
        let (mut flush, mut later, mut bytes) = (Vec::new(), VecDeque::new(), 0);
        for request in self.waiting.drain(..) {
            let entry = &request.entry;
            let fits = flush.is_empty() || (flush.len() < FLUSH && bytes + entry.bytes <= FLUSH_BYTES);
            let mut clear = true;
            for stream in &entry.streams {
                clear &= met.insert(*stream);
            }
            if fits && clear {
                bytes += entry.bytes;
                flush.push(request);
            } else {
                later.push_back(request);
            }
        }
        self.waiting = later;
        flush
    }
}

fn measure(results: &[Result<Vec<Receipt>>], began: Instant) {
    metrics::histogram!(metric::FLUSH_SECONDS).record(began.elapsed());
    let stored = results.iter().flatten().flatten().filter(|receipt| !receipt.repeated);
    let events: i64 = stored.map(|receipt| receipt.last.0 - receipt.first.0 + 1).sum();
    metrics::counter!(metric::APPENDED).increment(events.unsigned_abs());
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        metrics::counter!(metric::REFUSED, "reason" => reason(error)).increment(1);
    }
}

fn reason(error: &Error) -> &'static str {
    match error {
        Error::Conflict { .. } => "conflict",
        Error::Guarded { .. } => "guarded",
        Error::Fenced { .. } => "fenced",
        Error::IdReused(_) => "id_reused",
        Error::Closed(_) => "closed",
        _ => "database",
    }
}

//! Threads that own what they work with, a connection say, and do the jobs they are sent.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use tokio::sync::{mpsc, oneshot};

use crate::{Error, Result};

/// Most jobs that wait; beyond it, callers wait to hand theirs over.
const JOBS: usize = 64;

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// One thread per tool. Dropped, its threads end after what was handed over.
pub(super) struct Crew<T> {
    jobs: Mutex<Option<mpsc::Sender<Job<T>>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<T: Send + 'static> Crew<T> {
    pub(super) fn new(name: &str, tools: Vec<T>) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(JOBS);
        let queue = Arc::new(Mutex::new(queue));
        let spawn = |tool| {
            let queue = queue.clone();
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || work(&queue, tool))
        };
        let threads = tools.into_iter().map(spawn).collect::<std::io::Result<_>>()?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            threads: Mutex::new(threads),
        })
    }
    /// Has a job done. Dropped while it waits, the job may still be done.
    pub(super) async fn run<A: Send + 'static>(&self, job: impl FnOnce(&mut T) -> A + Send + 'static) -> Result<A> {
        let jobs = self
            .jobs
            .lock()
            .expect("invariant: nothing panics under the lock")
            .clone();
        let (answer, answered) = oneshot::channel();
        let job: Job<T> = Box::new(move |tool| {
            // A caller that has gone away does not want to know.
            let _ = answer.send(job(tool));
        });
        jobs.ok_or(Error::ShutDown)?
            .send(job)
            .await
            .map_err(|_| Error::ShutDown)?;
        answered.await.map_err(|lost| Error::Unknown(Arc::new(lost)))
    }
    /// Ends the threads, after what was handed over.
    pub(super) async fn close(&self) {
        self.jobs
            .lock()
            .expect("invariant: nothing panics under the lock")
            .take();
        let threads = std::mem::take(&mut *self.threads.lock().expect("invariant: nothing panics under the lock"));
        let join = move || threads.into_iter().for_each(|thread| drop(thread.join()));
        // Joining fails only where the runtime is being torn down; the threads end all the same.
        let _ = tokio::task::spawn_blocking(join).await;
    }
}

fn work<T>(queue: &Mutex<mpsc::Receiver<Job<T>>>, mut tool: T) {
    loop {
        let job = queue
            .lock()
            .expect("invariant: nothing panics under the lock")
            .blocking_recv();
        let Some(job) = job else { return };
        // The transaction of a job that panics is rolled back as its guard unwinds; its caller is told by its channel.
        if catch_unwind(AssertUnwindSafe(|| job(&mut tool))).is_err() {
            tracing::error!("a job of the log panicked; this is a bug, please report it");
        }
    }
}

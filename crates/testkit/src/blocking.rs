//! What waits for processes, where waiting holds up no task.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;

/// Runs it to its end, also where nobody waits for that any more.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => unreachable!("invariant: blocking work that was begun is not cancelled: {error}"),
    })
}

/// A server that tasks ask one thing after the other. What is begun is done to its end, also where the future is dropped.
#[derive(Debug)]
pub(crate) struct Handle<S>(Arc<Mutex<S>>);

impl<S: Send + 'static> Handle<S> {
    pub(crate) fn new(server: S) -> Self {
        Self(Arc::new(Mutex::new(server)))
    }
    pub(crate) async fn with<T: Send + 'static>(&self, work: impl FnOnce(&mut S) -> T + Send + 'static) -> T {
        let server = self.0.clone();
        blocking(move || work(&mut server.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

impl<S> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

//! What waits for processes, where waiting holds up no task.

use tokio::task::spawn_blocking;

/// Runs it to its end, also where nobody waits for that any more.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => unreachable!("invariant: blocking work that was begun is not cancelled: {error}"),
    })
}

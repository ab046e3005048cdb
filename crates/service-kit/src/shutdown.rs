//! From a signal to a process that has ended.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The process's way out: a token that says "stop", and the tasks that are waited for.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Nobody has asked for it yet.
    pub fn new() -> Self {
        Self::default()
    }
    /// Stops at the first SIGINT or SIGTERM; a second one ends the process at once, with 130 or 143.
    ///
    /// # Errors
    /// Where the process may not listen to signals.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let token = self.token.clone();
        // It lives as long as the process, so that the second signal is heard while the first one's drain lasts.
        tokio::spawn(async move {
            loop {
                let code = tokio::select! {
                    _ = interrupt.recv() => 130,
                    _ = terminate.recv() => 143,
                };
                if token.is_cancelled() {
                    std::process::exit(code);
                }
                token.cancel();
            }
        });
        Ok(())
    }
    /// The token itself.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
    /// The tasks that are waited for.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }
    /// Asks for it.
    pub fn begin(&self) {
        self.token.cancel();
    }
    /// Ready when somebody has asked for it.
    pub fn requested(&self) -> impl Future<Output = ()> + Send + 'static {
        self.token.clone().cancelled_owned()
    }
    /// Waits for all tasks.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

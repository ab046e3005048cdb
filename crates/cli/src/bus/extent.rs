//! When a command that takes messages has had enough of them.

use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
pub(super) struct Extent {
    /// Ends after so many messages.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Ends when nothing has come for so long.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle: Option<Duration>,
}

/// A time in seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::try_from_secs_f64);
    seconds
        .and_then(Result::ok)
        .ok_or_else(|| "write a number of seconds, zero or more".to_owned())
}

impl Extent {
    /// How many more are wanted after so many.
    pub(super) fn left(&self, taken: u64) -> u64 {
        self.count.map_or(u64::MAX, |count| count.saturating_sub(taken))
    }
    /// Until nothing has come for too long.
    pub(super) async fn grow_tired(&self) {
        match self.idle {
            Some(idle) => tokio::time::sleep(idle).await,
            None => std::future::pending().await,
        }
    }
}

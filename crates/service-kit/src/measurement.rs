//! Metrics for Prometheus.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// Upper bounds of histograms in seconds, from a fast commit to a slow broker.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// How often what histograms have gathered is folded up, so that it does not grow while nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Locked while it is made: of two that start at once, the second gets the first one's.
static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// The process's metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(PrometheusHandle);

/// Metrics cannot be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The exporter does not take our set-up.
    #[error("the metrics exporter cannot be built")]
    Build(#[from] BuildError),
    /// Something else in this process records metrics already.
    #[error("another metrics recorder is installed")]
    Installed,
}

impl Metrics {
    /// Starts recording, once per process: all further calls share the first one's recorder.
    ///
    /// # Errors
    /// [`MetricsError`].
    pub fn start() -> Result<Self, MetricsError> {
        let mut recording = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = &*recording {
            return Ok(Self(handle.clone()));
        }
        let suffix = Matcher::Suffix("_seconds".to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(suffix, SECONDS)?
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Installed)?;
        Ok(Self(recording.insert(handle).clone()))
    }
    /// Keeps memory bounded while nobody scrapes.
    pub async fn upkeep(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(UPKEEP);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.0.run_upkeep();
        }
    }
    /// All of them, in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }
}

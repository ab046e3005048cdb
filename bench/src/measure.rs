//! Rounds, interleaved, and what is kept of them.

use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use crate::{
    case::Setting,
    postgres::{processor, server::Server},
};

/// One round of one side.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// Units per second.
    pub(crate) rate: f64,
    /// Units in all, those included that were not timed.
    units: usize,
    /// What one unit took of the processors, of all threads and of the kernel for them: of this process, of those that it has
    /// started, and of the server.
    pub(crate) cpu: Duration,
    /// How long single calls took, sorted; empty where there are none to speak of.
    pub(crate) latencies: Vec<Duration>,
    /// Further figures, by name.
    pub(crate) more: BTreeMap<&'static str, f64>,
}

/// Both sides' median rounds.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) ours: Sample,
    pub(crate) baseline: Sample,
}

/// One side of a pair, where a profiler is to see it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Side {
    Ours,
    Baseline,
}

#[cfg(feature = "brokers")]
impl Pair {
    /// The same rounds, with seconds of processor time per 100,000 units for their figure.
    #[must_use]
    pub(crate) fn by_cpu(self) -> Self {
        let by_cpu = |sample: Sample| {
            let rate = sample.rate;
            Sample {
                rate: sample.cpu.as_secs_f64() * 100_000.0,
                latencies: Vec::new(),
                ..sample.with("per_second", rate)
            }
        };
        Self {
            ours: by_cpu(self.ours),
            baseline: by_cpu(self.baseline),
        }
    }
}

impl Sample {
    /// Takes in single calls' times.
    pub(crate) fn new(rate: f64, units: usize, mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self {
            rate,
            units,
            latencies,
            ..Self::default()
        }
    }
    /// Adds a figure.
    pub(crate) fn with(mut self, name: &'static str, value: f64) -> Self {
        self.more.insert(name, value);
        self
    }
    /// With what this process alone has taken of the processors since then, in place of what a round is taken to have cost.
    #[cfg(feature = "brokers")]
    #[must_use]
    pub(crate) fn with_own_time_since(self, before: Duration) -> Self {
        let cpu = (own_time() - before).as_secs_f64() / self.units.max(1) as f64;
        Self {
            cpu: Duration::from_secs_f64(cpu),
            ..self
        }
    }
    /// The time in which this part of the calls was done.
    pub(crate) fn percentile(&self, part: f64) -> Option<Duration> {
        let last = self.latencies.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a list that fits in memory"
        )]
        let index = (last as f64 * part).round() as usize;
        self.latencies.get(index).copied()
    }
}

/// Runs both sides in turns, so that what disturbs the machine disturbs both.
pub(crate) async fn side_by_side(
    setting: &Setting,
    ours: impl AsyncFn() -> anyhow::Result<Sample>,
    baseline: impl AsyncFn() -> anyhow::Result<Sample>,
) -> anyhow::Result<Pair> {
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        if setting.side != Some(Side::Baseline) {
            mine.push(round(setting, &ours).await?);
        }
        if setting.side != Some(Side::Ours) {
            theirs.push(round(setting, &baseline).await?);
        }
    }
    Ok(Pair {
        ours: median(mine),
        baseline: median(theirs),
    })
}

/// One round, and what it took of the processors: its preparations included, unless it says when they are done, or what it took.
async fn round(setting: &Setting, side: &impl AsyncFn() -> anyhow::Result<Sample>) -> anyhow::Result<Sample> {
    begin(setting);
    let sample = side().await?;
    if !sample.cpu.is_zero() {
        return Ok(sample);
    }
    let before = *setting.begun.lock().unwrap_or_else(PoisonError::into_inner);
    let cpu = processor_time(setting).saturating_sub(before);
    Ok(Sample {
        cpu: Duration::from_secs_f64(cpu.as_secs_f64() / sample.units.max(1) as f64),
        ..sample
    })
}

/// What is taken of the processors counts from here on.
pub(crate) fn begin(setting: &Setting) {
    *setting.begun.lock().unwrap_or_else(PoisonError::into_inner) = processor_time(setting);
}

/// Of this process, of those that it has started and that have ended, and of the server.
fn processor_time(setting: &Setting) -> Duration {
    let server = setting.server.as_ref().map(Server::processor_time);
    own_time() + processor::of_ended_children() + server.unwrap_or_default()
}

/// Of this process, of all its threads and of the kernel for them.
pub(crate) fn own_time() -> Duration {
    // It never is before the process began.
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// The round of median rate, with the median of what a unit took of the processors. Empty where no round was run.
fn median(mut samples: Vec<Sample>) -> Sample {
    samples.sort_by_key(|sample| sample.cpu);
    let cpu = samples.get(samples.len() / 2).map(|sample| sample.cpu);
    samples.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let middle = samples.len() / 2;
    let sample = samples.into_iter().nth(middle).unwrap_or_default();
    Sample {
        cpu: cpu.unwrap_or_default(),
        ..sample
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Sample, median};

    #[test]
    fn the_middle_round_counts() {
        let samples = [(3.0, 7), (9.0, 8), (1.0, 1)].map(|(rate, cpu)| Sample {
            rate,
            cpu: Duration::from_micros(cpu),
            ..Sample::default()
        });
        let middle = median(samples.to_vec());
        assert!((middle.rate - 3.0).abs() < f64::EPSILON);
        assert_eq!(middle.cpu, Duration::from_micros(7));
    }

    #[test]
    fn a_side_that_was_left_out_is_empty() {
        assert!(median(Vec::new()).rate.abs() < f64::EPSILON);
    }

    #[test]
    fn percentiles_are_of_sorted_calls() {
        let sample = Sample::new(1.0, 101, (1..=101).rev().map(Duration::from_millis).collect());
        assert_eq!(sample.percentile(0.5), Some(Duration::from_millis(51)));
        assert_eq!(sample.percentile(0.99), Some(Duration::from_millis(100)));
        assert_eq!(Sample::default().percentile(0.5), None);
    }
}

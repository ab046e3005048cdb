//! Rounds, interleaved, and what is kept of them.

use std::{collections::BTreeMap, time::Duration};

/// Rounds of each side; their median counts.
const ROUNDS: usize = 3;

/// One round of one side.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// Units per second.
    pub(crate) rate: f64,
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

impl Sample {
    /// Takes in single calls' times.
    pub(crate) fn new(rate: f64, mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self {
            rate,
            latencies,
            more: BTreeMap::new(),
        }
    }
    /// Adds a figure.
    pub(crate) fn with(mut self, name: &'static str, value: f64) -> Self {
        self.more.insert(name, value);
        self
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
    ours: impl AsyncFn() -> anyhow::Result<Sample>,
    baseline: impl AsyncFn() -> anyhow::Result<Sample>,
) -> anyhow::Result<Pair> {
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        mine.push(ours().await?);
        theirs.push(baseline().await?);
    }
    Ok(Pair {
        ours: median(mine),
        baseline: median(theirs),
    })
}

fn median(mut samples: Vec<Sample>) -> Sample {
    samples.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    samples.swap_remove(samples.len() / 2)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Sample, median};

    #[test]
    fn the_middle_round_counts() {
        let samples = [3.0, 9.0, 1.0].map(|rate| Sample {
            rate,
            ..Sample::default()
        });
        assert!((median(samples.to_vec()).rate - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn percentiles_are_of_sorted_calls() {
        let sample = Sample::new(1.0, (1..=101).rev().map(Duration::from_millis).collect());
        assert_eq!(sample.percentile(0.5), Some(Duration::from_millis(51)));
        assert_eq!(sample.percentile(0.99), Some(Duration::from_millis(100)));
        assert_eq!(Sample::default().percentile(0.5), None);
    }
}

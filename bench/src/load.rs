//! Closed loops: so many callers, each with one call under way.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::measure::Sample;

/// The part of a round that runs before it is measured.
const WARM_UP: f64 = 0.2;

/// When measuring begins and ends.
#[derive(Debug, Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

impl Window {
    fn new(round: Duration) -> Self {
        let begin = Instant::now() + round.mul_f64(WARM_UP);
        Self {
            begin,
            end: begin + round,
        }
    }
    /// Counts a call that began in the window and ended in it.
    fn record(self, started: Instant, calls: &mut Vec<Duration>) {
        let ended = Instant::now();
        if ended >= self.begin && ended <= self.end {
            calls.push(ended - started);
        }
    }
    fn sample(self, calls: Vec<Duration>, units_per_call: u32) -> Sample {
        let rate = per_second(calls.len(), self.end - self.begin) * f64::from(units_per_call);
        Sample::new(rate, calls)
    }
}

/// Calls `op(caller, number)` from so many callers, each waiting for its own, until the round is over.
pub(crate) async fn closed_loop<F, Fut>(
    round: Duration,
    callers: usize,
    units_per_call: u32,
    op: F,
) -> anyhow::Result<Sample>
where
    F: Fn(usize, u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let window = Window::new(round);
    let mut callers: JoinSet<anyhow::Result<Vec<Duration>>> = (0..callers)
        .map(|caller| {
            let op = op.clone();
            async move {
                let mut calls = Vec::new();
                for number in 0.. {
                    let started = Instant::now();
                    if started >= window.end {
                        break;
                    }
                    op(caller, number).await?;
                    window.record(started, &mut calls);
                }
                Ok(calls)
            }
        })
        .collect();
    let mut calls = Vec::new();
    while let Some(of_one) = callers.join_next().await {
        calls.extend(of_one??);
    }
    Ok(window.sample(calls, units_per_call))
}

/// Calls `op` again and again on this thread until the round is over.
pub(crate) fn blocking_loop(
    round: Duration,
    units_per_call: u32,
    mut op: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Sample> {
    let window = Window::new(round);
    let mut calls = Vec::new();
    loop {
        let started = Instant::now();
        if started >= window.end {
            return Ok(window.sample(calls, units_per_call));
        }
        op()?;
        window.record(started, &mut calls);
    }
}

/// The rate of whole passes over something, at least one.
pub(crate) async fn passes(round: Duration, pass: impl AsyncFn() -> anyhow::Result<usize>) -> anyhow::Result<Sample> {
    let started = Instant::now();
    let mut units = 0;
    while units == 0 || started.elapsed() < round {
        units += pass().await?;
    }
    Ok(Sample::new(per_second(units, started.elapsed()), Vec::new()))
}

#[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
pub(crate) fn per_second(calls: usize, time: Duration) -> f64 {
    calls as f64 / time.as_secs_f64()
}

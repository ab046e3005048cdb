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
    fn sample(self, calls: Calls, units_per_call: u32) -> Sample {
        let rate = per_second(calls.times.len(), self.end - self.begin) * f64::from(units_per_call);
        Sample::new(rate, calls.all * units_per_call as usize, calls.times)
    }
}

/// The calls of a round.
#[derive(Debug, Default)]
struct Calls {
    /// How long those took that ended in the window.
    times: Vec<Duration>,
    /// How many there were, warm-up and last ones included.
    all: usize,
}

impl Calls {
    fn record(&mut self, window: Window, started: Instant) {
        let ended = Instant::now();
        self.all += 1;
        if ended >= window.begin && ended <= window.end {
            self.times.push(ended - started);
        }
    }
    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.all += other.all;
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
    let mut callers: JoinSet<anyhow::Result<Calls>> = (0..callers)
        .map(|caller| {
            let op = op.clone();
            async move {
                let mut calls = Calls::default();
                for number in 0.. {
                    let started = Instant::now();
                    if started >= window.end {
                        break;
                    }
                    op(caller, number).await?;
                    calls.record(window, started);
                }
                Ok(calls)
            }
        })
        .collect();
    let mut calls = Calls::default();
    while let Some(of_one) = callers.join_next().await {
        calls.add(of_one??);
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
    let mut calls = Calls::default();
    loop {
        let started = Instant::now();
        if started >= window.end {
            return Ok(window.sample(calls, units_per_call));
        }
        op()?;
        calls.record(window, started);
    }
}

/// The rate of whole passes over something, at least one.
pub(crate) async fn passes(round: Duration, pass: impl AsyncFn() -> anyhow::Result<usize>) -> anyhow::Result<Sample> {
    let started = Instant::now();
    let mut units = 0;
    while units == 0 || started.elapsed() < round {
        units += pass().await?;
    }
    Ok(Sample::new(per_second(units, started.elapsed()), units, Vec::new()))
}

#[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
pub(crate) fn per_second(calls: usize, time: Duration) -> f64 {
    calls as f64 / time.as_secs_f64()
}

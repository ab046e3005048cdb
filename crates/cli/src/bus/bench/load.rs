//! Who publishes in a bench: several at the same time, a few messages together, until all numbers are given out.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sagamill::bus::{Bus, Error, Message, Topic};
use tokio::task::{JoinError, JoinSet};

use super::{Options, stamp::Run};

/// The publishers at work; dropped, they stop.
#[derive(Debug)]
pub(super) struct Load {
    publishers: JoinSet<Vec<(u32, Error)>>,
    run: Run,
}

/// What was published.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) messages: u32,
    /// The numbers of those that were not confirmed: they may have come, or not.
    pub(super) failed: BTreeSet<u32>,
    /// What the bus said of the first of them.
    pub(super) error: Option<Error>,
    /// When the last publisher had its answer, since the run began.
    pub(super) took: Duration,
}

impl Published {
    pub(super) fn confirmed(&self) -> u32 {
        self.messages - u32::try_from(self.failed.len()).unwrap_or(self.messages)
    }
}

impl Load {
    pub(super) fn start(options: &Options, bus: &Bus, run: &Run) -> Self {
        let next = Arc::new(AtomicU32::new(0));
        let mut publishers = JoinSet::new();
        for _ in 0..options.publishers {
            let publisher = Publisher {
                bus: bus.clone(),
                topic: options.topic.clone(),
                run: run.clone(),
                next: next.clone(),
                batch: options.batch,
                size: options.size as usize,
            };
            publishers.spawn(publisher.work());
        }
        let run = run.clone();
        Self { publishers, run }
    }
    /// Waits until all have their answers.
    pub(super) async fn finish(mut self) -> Result<Published, JoinError> {
        let (mut failed, mut error) = (BTreeSet::new(), None);
        while let Some(done) = self.publishers.join_next().await {
            for (number, said) in done? {
                failed.insert(number);
                error.get_or_insert(said);
            }
        }
        Ok(Published {
            messages: self.run.messages(),
            failed,
            error,
            took: self.run.elapsed(),
        })
    }
}

struct Publisher {
    bus: Bus,
    topic: Topic,
    run: Run,
    /// The first number that nobody has taken.
    next: Arc<AtomicU32>,
    batch: u32,
    size: usize,
}

impl Publisher {
    /// Answers those that were not confirmed.
    async fn work(self) -> Vec<(u32, Error)> {
        let mut failed = Vec::new();
        loop {
            let first = self.next.fetch_add(self.batch, Ordering::Relaxed);
            let numbers = first..first.saturating_add(self.batch).min(self.run.messages());
            if numbers.is_empty() {
                return failed;
            }
            let message = |number| Message::new(self.run.payload(number, self.size));
            let batch = numbers.clone().map(message).collect();
            let answers = self.bus.publish_each(&self.topic, batch).await;
            let refused = numbers
                .zip(answers)
                .filter_map(|(number, answer)| Some((number, answer.err()?)));
            failed.extend(refused);
        }
    }
}

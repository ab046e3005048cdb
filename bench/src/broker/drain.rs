//! Reads all that was published, and sees whether anything was lost.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{message, way::Way};
use crate::load::per_second;

/// What has not come by now is lost.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(60);

/// What was read.
#[derive(Debug)]
pub(crate) struct Drained {
    /// Messages a second, from the first that came to the last: a group takes its time to come together.
    pub(crate) rate: f64,
    /// Messages that came again.
    pub(crate) duplicates: f64,
}

/// Reads until each number below `count` has come.
///
/// # Errors
/// Where one does not come in time.
pub(crate) async fn drain<W: Way>(way: &W, count: u64) -> anyhow::Result<Drained> {
    let tally = Arc::new(Mutex::new(Tally::new(count)?));
    let receive = {
        let tally = tally.clone();
        move |payload: &[u8]| {
            let (number, _) = message::read(payload)?;
            tally.lock().unwrap_or_else(PoisonError::into_inner).note(number)
        }
    };
    let in_time = tokio::time::timeout(LOST_AFTER, way.consume(receive)).await;
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    match in_time {
        Ok(drained) => drained?,
        Err(_) => bail!("{} of {count} messages have not come", tally.missing),
    }
    Ok(tally.drained())
}

/// Which numbers have come.
#[derive(Debug)]
pub(crate) struct Tally {
    seen: Vec<bool>,
    missing: usize,
    duplicates: usize,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Tally {
    pub(crate) fn new(count: u64) -> anyhow::Result<Self> {
        let count = usize::try_from(count)?;
        Ok(Self {
            seen: vec![false; count],
            missing: count,
            duplicates: 0,
            first: None,
            last: None,
        })
    }
    /// Takes a number down, and says whether others are missing.
    pub(crate) fn note(&mut self, number: u64) -> anyhow::Result<ControlFlow<()>> {
        self.first.get_or_insert_with(Instant::now);
        let seen = self.seen.get_mut(usize::try_from(number)?);
        if std::mem::replace(seen.context("a number that nobody sent")?, true) {
            self.duplicates += 1;
        } else {
            self.missing -= 1;
        }
        if self.missing > 0 {
            return Ok(ControlFlow::Continue(()));
        }
        self.last.get_or_insert_with(Instant::now);
        Ok(ControlFlow::Break(()))
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(crate) fn drained(&self) -> Drained {
        let took = self.first.zip(self.last).map(|(first, last)| last - first);
        Drained {
            rate: per_second(self.seen.len(), took.unwrap_or_default()),
            duplicates: self.duplicates as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_comes_again_is_counted_and_stands_for_no_other() {
        let mut tally = Tally::new(2).unwrap();
        for number in [1, 1] {
            assert_eq!(tally.note(number).unwrap(), ControlFlow::Continue(()));
        }
        assert_eq!(tally.note(0).unwrap(), ControlFlow::Break(()));
        assert!((tally.drained().duplicates - 1.0).abs() < f64::EPSILON);
        assert!(tally.note(2).is_err(), "nobody sent it");
    }
}

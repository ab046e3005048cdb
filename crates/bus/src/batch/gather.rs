//! Calls that gather to a batch, and wait for what it comes to. No task: whoever waits drives the batch, and with the last
//! of them it ends.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_core::future::BoxFuture;
use futures_util::{
    FutureExt,
    future::{Shared, WeakShared},
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};
use tracing::Instrument;

use super::{BatchError, Batching};
use crate::{BoxError, Message, Settlement, Topic, error::panic_message};

/// How one message of a batch ends, and what is published before that.
pub(crate) type Answer = Result<(Settlement, Vec<(Topic, Message)>), BoxError>;
/// Handles a batch; one answer for each call, in their order.
type Serve<C> = Arc<dyn Fn(Vec<C>) -> BoxFuture<'static, Vec<Answer>> + Send + Sync>;

/// Gathers the calls of one handler.
pub(crate) struct Gatherer<C> {
    batching: Batching,
    serve: Serve<C>,
    open: Mutex<Option<Open<C>>>,
}

/// The batch that is gathering, or did last.
struct Open<C> {
    table: Arc<Table<C>>,
    /// Not held here: a batch that everybody has left must end, with its handler.
    run: WeakShared<BoxFuture<'static, ()>>,
}

/// The calls of one batch until it begins.
struct Table<C> {
    /// None: it has begun.
    seats: Mutex<Option<Vec<Seat<C>>>>,
    full: Notify,
}

struct Seat<C> {
    number: usize,
    call: C,
    answer: oneshot::Sender<Outcome>,
}

enum Outcome {
    Answered(Answer),
    Panicked(String),
}

/// A call's place in a batch: dropped before the batch has begun, the call is no part of it.
struct Sitting<C> {
    table: Arc<Table<C>>,
    number: usize,
}

impl<C: Send + 'static> Gatherer<C> {
    pub(crate) fn new(
        batching: Batching,
        serve: impl Fn(Vec<C>) -> BoxFuture<'static, Vec<Answer>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            batching,
            serve: Arc::new(serve),
            open: Mutex::new(None),
        })
    }
    /// Joins a batch, and returns this call's part of what it comes to. A panic of the handler is a panic of each call.
    pub(crate) async fn call(&self, call: C) -> Answer {
        let (answer, answered) = oneshot::channel();
        let (_sitting, run) = self.sit(call, answer);
        run.await;
        match answered.await {
            Ok(Outcome::Answered(answer)) => answer,
            Ok(Outcome::Panicked(message)) => resume_unwind(Box::new(message)),
            Err(_) => Err(BatchError::Unanswered.into()),
        }
    }

    fn sit(&self, call: C, answer: oneshot::Sender<Outcome>) -> (Sitting<C>, Shared<BoxFuture<'static, ()>>) {
        let mut seat = Seat {
            number: 0,
            call,
            answer,
        };
        let mut open = lock(&self.open);
        if let Some(batch) = open.as_ref()
            && let Some(run) = batch.run.upgrade()
        {
            match batch.table.take(seat, self.batching.size) {
                Ok(number) => return (Sitting::at(&batch.table, number), run),
                Err(refused) => seat = refused,
            }
        }
        let (table, run) = self.open(seat);
        *open = run.downgrade().map(|run| Open {
            table: Arc::clone(&table),
            run,
        });
        (Sitting::at(&table, 0), run)
    }
    /// Begins to gather, with a first call.
    fn open(&self, first: Seat<C>) -> (Arc<Table<C>>, Shared<BoxFuture<'static, ()>>) {
        let table = Arc::new(Table {
            seats: Mutex::new(Some(vec![first])),
            full: Notify::new(),
        });
        if self.batching.size <= 1 {
            table.full.notify_one();
        }
        let until = Instant::now() + self.batching.linger;
        let run = run(Arc::clone(&table), Arc::clone(&self.serve), until);
        (table, run.boxed().shared())
    }
}

async fn run<C>(table: Arc<Table<C>>, serve: Serve<C>, until: Instant) {
    tokio::select! {
        biased;
        () = table.full.notified() => {}
        () = sleep_until(until) => {}
    }
    let seats = lock(&table.seats).take().unwrap_or_default();
    let (calls, answers): (Vec<C>, Vec<_>) = seats.into_iter().map(|seat| (seat.call, seat.answer)).unzip();
    let span = tracing::debug_span!("batch", messaging.batch.message_count = calls.len());
    // Nothing of ours is shared with the handler.
    let served = AssertUnwindSafe(async { serve(calls).await }.instrument(span));
    let outcomes: Vec<Outcome> = match served.catch_unwind().await {
        Ok(answers) => answers.into_iter().map(Outcome::Answered).collect(),
        Err(panic) => {
            let message = panic_message(panic.as_ref());
            answers.iter().map(|_| Outcome::Panicked(message.to_owned())).collect()
        }
    };
    for (answer, outcome) in answers.into_iter().zip(outcomes) {
        // Whoever has left in the meantime has given its message back.
        answer.send(outcome).ok();
    }
}

impl<C> Table<C> {
    /// Takes a seat; gives the call back where none is to be had.
    fn take(&self, mut seat: Seat<C>, size: usize) -> Result<usize, Seat<C>> {
        let mut seats = lock(&self.seats);
        let Some(seats) = seats.as_mut().filter(|seats| seats.len() < size) else {
            return Err(seat);
        };
        let number = seats.last().map_or(0, |last| last.number + 1);
        seat.number = number;
        seats.push(seat);
        if seats.len() == size {
            self.full.notify_one();
        }
        Ok(number)
    }
    fn leave(&self, number: usize) {
        if let Some(seats) = lock(&self.seats).as_mut() {
            seats.retain(|seat| seat.number != number);
        }
    }
}

impl<C> Sitting<C> {
    fn at(table: &Arc<Table<C>>, number: usize) -> Self {
        Self {
            table: Arc::clone(table),
            number,
        }
    }
}

impl<C> Drop for Sitting<C> {
    fn drop(&mut self) {
        self.table.leave(self.number);
    }
}

/// A panic under a lock leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

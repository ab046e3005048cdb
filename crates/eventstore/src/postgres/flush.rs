//! Flushes on the writer's connection: made again where the connection was lost, halved where the database refuses
//! something in them.

use std::{collections::HashSet, sync::Arc, time::Duration};

use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::{
    answer::Answer,
    call::{Call, Manner},
    connector::Backoff,
    failure, health,
    known::Known,
    log::Shared,
};
use crate::{Error, LockHolder, Receipt, Result, StreamId, entry::Entry, metric_definitions as metric};

/// Most staged rows that are sequenced in one call.
const DRAIN: i32 = 1_000;
/// Most that are sequenced in one call one by one.
const DRAIN_ONE_BY_ONE: i32 = 100;
/// How long a flush goes on trying to reach the server.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the server may take over a flush before that is said, and before it is given up as in doubt. Behind it stand a
/// lock (5 s), the disk, and a standby that must confirm.
const LONG: Duration = Duration::from_secs(10);
const TOO_LONG: Duration = Duration::from_secs(30);

pub(super) type Answers = Vec<Result<Vec<Receipt>>>;

/// The one who appends.
pub(super) struct Flusher {
    shared: Arc<Shared>,
    /// None: the next call makes one.
    line: Option<Line>,
}

/// A server connection, and what is remembered by it.
struct Line {
    connection: PgConnection,
    known: Known,
}

/// Why a call has no answer.
enum Failed {
    /// It is the same for all in it: nothing is stored, or it is not known.
    Whole(Error),
    /// The database refuses something in it: nothing is stored.
    Part(sqlx::Error),
}

impl Flusher {
    pub(super) fn new(shared: Arc<Shared>, connection: PgConnection) -> Self {
        let line = Some(Line {
            connection,
            known: Known::nothing(),
        });
        Self { shared, line }
    }

    /// Stores batches, each whole or not at all; sequences before them what is staged.
    pub(super) async fn flush(&mut self, entries: &[Entry]) -> Answers {
        let mut answers = Vec::with_capacity(entries.len());
        for part in parts(entries) {
            answers.extend(self.store(part).await);
        }
        answers
    }

    async fn store(&mut self, entries: &[Entry]) -> Answers {
        let asked = self.shared.staging.begin();
        let manner = Manner {
            drain: if asked.is_some() { DRAIN } else { 0 },
            check: false,
        };
        let refusal = match self.call(entries, manner, asked).await {
            Ok(answers) => return answers,
            Err(Failed::Whole(error)) => return vec![Err(error); entries.len()],
            Err(Failed::Part(refusal)) => refusal,
        };
        if !failure::is_duplicate(&refusal) {
            tracing::warn!(error = %refusal, batches = entries.len(), "a flush failed; looking for the batch that is the cause");
        }
        if asked.is_some() {
            // Whoever staged and then appended finds its events before them, also now.
            self.drain().await;
        }
        self.halve(entries).await
    }

    /// All of them with their ids looked up; where the database still refuses something, each half, until it is alone.
    async fn halve(&mut self, entries: &[Entry]) -> Answers {
        let manner = Manner { drain: 0, check: true };
        let (mut todo, mut answers) = (vec![entries], Answers::with_capacity(entries.len()));
        while let Some(part) = todo.pop() {
            match self.call(part, manner, None).await {
                Ok(more) => answers.extend(more),
                Err(Failed::Part(_)) if part.len() > 1 => {
                    let (left, right) = part.split_at(part.len() / 2);
                    todo.extend([right, left]);
                }
                Err(Failed::Part(refusal)) => answers.push(Err(refused(refusal))),
                Err(Failed::Whole(error)) => {
                    let left = todo.drain(..).map(<[_]>::len).sum::<usize>() + part.len();
                    answers.extend(std::iter::repeat_n(error, left).map(Err));
                }
            }
        }
        answers
    }

    /// Sequences what is staged, while nobody appends. What cannot be done now is tried again after a pause.
    pub(super) async fn drain(&mut self) {
        let Some(asked) = self.shared.staging.begin() else {
            return;
        };
        let manner = Manner {
            drain: DRAIN,
            check: false,
        };
        fail::fail_point!("log.drain.before");
        let error = match self.call(&[], manner, Some(asked)).await {
            Ok(_) => return,
            Err(Failed::Whole(error)) => error,
            Err(Failed::Part(refusal)) => {
                tracing::warn!(error = %refusal, "staged events cannot be sequenced together; they are taken one by one");
                match self.drain_one_by_one(asked).await {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
        };
        tracing::warn!(%error, "staged events cannot be sequenced; trying again");
        self.shared.staging.fail();
    }
    async fn drain_one_by_one(&mut self, asked: u64) -> Result<()> {
        let line = self.line().await?;
        // The head moves, and by what is not said.
        line.known.forget();
        let one_by_one = sqlx::query_as("SELECT head, d_taken, d_failed FROM es.drain_one_by_one($1)");
        let drained = one_by_one.bind(DRAIN_ONE_BY_ONE).fetch_one(&mut line.connection);
        match in_time(drained).await {
            Ok((head, taken, failed)) => {
                self.shared.drained(taken, failed);
                // Which transactions had ended is not known: they are looked for again.
                self.shared.staging.end(asked, taken >= DRAIN_ONE_BY_ONE, 0);
                self.shared.grown(head);
                Ok(())
            }
            Err(error) => {
                self.line = None;
                Err(failure::of(error))
            }
        }
    }

    /// One call, and again where the connection was lost under it: the new one takes the lock first and so waits for the
    /// end of the old one's transaction, and then looks whether the events are there.
    async fn call(&mut self, entries: &[Entry], mut manner: Manner, asked: Option<u64>) -> Result<Answers, Failed> {
        let deadline = Instant::now() + PATIENCE;
        let mut backoff = Backoff::default();
        let mut doubt: Option<Error> = None;
        loop {
            let error = match self.attempt(entries, manner).await {
                Ok((answer, answers)) => {
                    self.note(&answer, asked);
                    return Ok(answers);
                }
                Err(error) => error,
            };
            let failed = match error {
                // Nothing was sent.
                Attempt::Unreachable(error) if Instant::now() < deadline && error.is_retryable() => error,
                Attempt::Unreachable(error) => return Err(Failed::Whole(doubt.unwrap_or(error))),
                Attempt::Refused(error) if failure::is_stale(&error) && Instant::now() < deadline => failure::of(error),
                Attempt::Refused(error) if failure::is_of_no_batch(&error) => {
                    return Err(Failed::Whole(doubt.unwrap_or_else(|| failure::of(error))));
                }
                Attempt::Refused(error) => return Err(Failed::Part(error)),
                Attempt::Lost(error) => {
                    let error = Error::Unknown(Arc::new(error));
                    manner.check = !entries.is_empty();
                    if Instant::now() >= deadline {
                        return Err(Failed::Whole(error));
                    }
                    doubt.insert(error).clone()
                }
            };
            let pause = backoff.next();
            tracing::warn!(server = %self.shared.connector.shown(), error = &failed as &dyn std::error::Error, ?pause, "a flush did not reach the server, or its answer did not come; again");
            metrics::counter!(metric::RECONNECTS).increment(1);
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&mut self, entries: &[Entry], manner: Manner) -> Result<(Answer, Answers), Attempt> {
        let connector = self.shared.connector.clone();
        let clock = &self.shared.clock;
        let line = match &mut self.line {
            Some(line) => line,
            none => none.insert(Line {
                connection: connector.connect().await.map_err(Attempt::Unreachable)?,
                known: Known::nothing(),
            }),
        };
        let call = Call::new(entries, &line.known);
        fail::fail_point!("log.append.before");
        let began = std::time::Instant::now();
        let answered = in_time(call.run(&mut line.connection, &mut line.known, manner)).await;
        let answer = answered.and_then(|row| Answer::of(&row));
        match answer {
            Ok(answer) => {
                clock.observe(answer.clock, began, std::time::Instant::now());
                fail::fail_point!("log.append.after");
                let full = answer
                    .drained
                    .as_ref()
                    .is_some_and(|drained| drained.taken >= manner.drain);
                answer.remember(entries, full, &mut line.known);
                let answers = answer.receipts(entries, call.offsets());
                Ok((answer, answers))
            }
            Err(error) => {
                line.known.forget();
                // A server that has said no has rolled back, and the connection is as good as before.
                if error.as_database_error().is_none() || failure::is_lost(&error) {
                    self.line = None;
                    return Err(Attempt::Lost(error));
                }
                if failure::is_stale(&error) {
                    self.line = None;
                } else if failure::is_locked(&error) {
                    say_who_holds_it(&mut line.connection).await;
                }
                Err(Attempt::Refused(error))
            }
        }
    }

    fn note(&self, answer: &Answer, asked: Option<u64>) {
        if let Some((drained, asked)) = answer.drained.as_ref().zip(asked) {
            self.shared.drained(drained.taken, drained.failed);
            self.shared
                .staging
                .end(asked, drained.taken >= DRAIN, drained.oldest_running);
        }
        self.shared.grown(answer.head);
    }

    async fn line(&mut self) -> Result<&mut Line> {
        if self.line.is_none() {
            let connection = self.shared.connector.connect().await?;
            self.line = Some(Line {
                connection,
                known: Known::nothing(),
            });
        }
        Ok(self.line.as_mut().expect("invariant: it has just been made"))
    }

    /// Says goodbye to the server.
    pub(super) async fn close(self) {
        if let Some(line) = self.line {
            // A connection that cannot be closed well is closed all the same.
            let _ = line.connection.close().await;
        }
    }
}

/// Why one try has no answer.
enum Attempt {
    /// There is no connection, and so no effect.
    Unreachable(Error),
    /// The server said no, and there is no effect.
    Refused(sqlx::Error),
    /// The connection was lost under it: it may be stored.
    Lost(sqlx::Error),
}

/// A server that does not answer is said, and in the end given up.
async fn in_time<T>(call: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let mut call = std::pin::pin!(call);
    match tokio::time::timeout(LONG, &mut call).await {
        Ok(answered) => return answered,
        Err(_) => tracing::warn!(
            "the server has not answered a flush for {LONG:?}: is its disk full of work, or a standby away that must confirm?"
        ),
    }
    let late = |_| {
        let what = format!("no answer to a flush within {TOO_LONG:?}");
        sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
    };
    tokio::time::timeout(TOO_LONG - LONG, call).await.map_err(late)?
}

/// A batch that was refused all by itself, with its ids looked up.
fn refused(refusal: sqlx::Error) -> Error {
    if !failure::is_duplicate(&refusal) {
        return failure::of(refusal);
    }
    failure::taken(&refusal).map_or_else(broken, Error::IdReused)
}

/// A unique index said no, and it was not that of the ids: positions or versions are not dense.
fn broken() -> Error {
    Error::Unusable {
        what: "a position or a stream's version is taken, though it is the next one: the log is damaged".to_owned(),
    }
}

/// Nobody waits for a lock without being told for whom.
async fn say_who_holds_it(connection: &mut PgConnection) {
    if let Ok(Some(holder)) = in_time(health::holder(connection)).await {
        let LockHolder {
            pid,
            application,
            state,
            since,
            waiting,
        } = holder;
        let since = since.map(tracing::field::display);
        tracing::warn!(pid, application, state, since, waiting, "somebody holds the log's lock");
    }
}

/// Runs of batches that may be judged together: guards are judged before anything of a call is stored, so that a batch which
/// guards what one before it appends to begins another call.
fn parts(entries: &[Entry]) -> Vec<&[Entry]> {
    if entries.iter().all(|entry| entry.batch.guards.is_empty()) {
        return vec![entries];
    }
    let (mut parts, mut begin) = (Vec::new(), 0);
    let mut appended: HashSet<&StreamId, foldhash::fast::RandomState> = HashSet::default();
    for (n, entry) in entries.iter().enumerate() {
        if entry.batch.guards.iter().any(|guard| appended.contains(&guard.stream)) {
            parts.push(&entries[begin..n]);
            begin = n;
            appended.clear();
        }
        appended.extend(entry.batch.appends.iter().map(|append| &append.stream));
    }
    parts.push(&entries[begin..]);
    parts
}

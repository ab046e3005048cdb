//! What is tried again after a process has died, one message of which may have been what killed it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sagamill_bus::{Attempt, HandlerError, Message, Retry, Router, State};
use tokio::{sync::Notify, task::JoinHandle};

use super::process::{GROUP, Process, TOPIC, keyed, next, number, request, take, within};
use crate::conformance::{Paced, Subject};

/// What a process's handlers have seen, over all processes.
#[derive(Default)]
struct Seen {
    /// By number, how often.
    handled: Mutex<BTreeMap<usize, u32>>,
    poisoned: Mutex<u32>,
    died: Notify,
}

#[derive(Clone)]
struct Work {
    seen: Arc<Seen>,
    process: Arc<Process>,
    attempts: u32,
}

const POISON: usize = 7;

async fn work(State(work): State<Work>, Attempt(attempt): Attempt, message: Message) -> Result<(), HandlerError> {
    let n = number(&message);
    if n == POISON {
        *work.seen.poisoned.lock().unwrap() += 1;
        work.process.stop(true);
        work.seen.died.notify_one();
        return std::future::pending().await;
    }
    // Some of them fail, so that what is written down is in doubt too.
    if n.is_multiple_of(5) && attempt < work.attempts {
        return Err(std::io::Error::other("not yet").into());
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    *work.seen.handled.lock().unwrap().entry(n).or_default() += 1;
    Ok(())
}

fn run(process: &Arc<Process>, seen: &Arc<Seen>, attempts: u32) -> JoinHandle<sagamill_bus::Result<()>> {
    let state = Work {
        seen: seen.clone(),
        process: process.clone(),
        attempts,
    };
    let retry = Retry::exponential(Duration::from_millis(1)..Duration::from_millis(5)).attempts(attempts);
    let router = Router::new().route(TOPIC, work).retry(retry).with_state(state);
    let group = process.bus.group(GROUP);
    tokio::spawn(async move { router.run(group, std::future::pending()).await })
}

/// A message that kills every process that handles it becomes a dead letter after at most one delivery more than it has
/// attempts, and takes no other with it.
pub async fn a_message_that_kills_its_process_ends_in_the_dead_letters(subject: Arc<dyn Subject>) {
    poison(&Paced::of(subject), 2).await;
}
/// The same where there is no second attempt in which a message could show that it was not the culprit.
pub async fn a_killer_with_one_attempt_takes_no_other_with_it(subject: Arc<dyn Subject>) {
    poison(&Paced::of(subject), 1).await;
}
async fn poison(subject: &Paced, attempts: u32) {
    const MESSAGES: usize = 60;
    let seen = Arc::new(Seen::default());
    let publisher = Process::start(subject).await;
    publisher.publish(keyed(0..MESSAGES, 20)).await;
    loop {
        let process = Arc::new(Process::start(subject).await);
        let running = run(&process, &seen, attempts);
        let all = async {
            while seen.handled.lock().unwrap().len() < MESSAGES - 1
                || publisher.bus.dead_letter_queues().await.unwrap().is_empty()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let done = tokio::select! {
            () = seen.died.notified() => false,
            () = all => true,
        };
        running.abort();
        let _ = running.await;
        if done {
            process.bus.clone().close().await.unwrap();
            break;
        }
    }
    let letters = publisher.bus.dead_letters(TOPIC, GROUP).unwrap();
    let dead = letters.list(None, 100).await.unwrap();
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(number(&dead[0].message), POISON);
    assert!(dead[0].last.reason.contains("never came to an end"), "{dead:?}");
    let poisoned = *seen.poisoned.lock().unwrap();
    assert_eq!(poisoned, attempts + 1, "one delivery of it went uncounted");
    publisher.end().await;
}

/// What a dead process left is tried together; what does not outlive that is tried alone.
pub async fn what_a_dead_process_left_is_tried_together_and_then_alone(subject: Arc<dyn Subject>) {
    const KEYS: usize = 8;
    let subject = &Paced::of(subject);
    let first = Process::start(subject).await;
    let mut of_first = first.subscribe(request()).await;
    first.publish(keyed(0..KEYS, KEYS)).await;
    let of_first = (take(&mut of_first, KEYS).await, of_first);
    first.stop(true);
    let second = Process::start(subject).await;
    let mut of_second = second.subscribe(request()).await;
    let together = take(&mut of_second, KEYS).await;
    assert!(
        together.iter().all(|delivery| delivery.attempt == 1),
        "of the first nothing was counted"
    );
    second.stop(true);
    let third = Process::start(subject).await;
    let mut of_third = third.subscribe(request()).await;
    for _ in 0..KEYS {
        let alone = next(&mut of_third).await;
        assert_eq!(alone.attempt, 2);
        assert!(
            within(&mut of_third, Duration::from_millis(100)).await.is_none(),
            "another is tried beside it"
        );
        alone.ack().await.unwrap();
    }
    drop((of_first, together, of_second));
    third.end().await;
}

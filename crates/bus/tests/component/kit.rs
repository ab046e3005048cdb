//! A router that runs, what handlers saw, and events to handle.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use sagamill_bus::{Result, Topic, memory::Memory, prelude::*};
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Two keys at a time make an order worth looking at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) order: u64,
    pub(crate) part: u64,
}
impl Event for Placed {
    const NAME: &'static str = "order.placed";
    fn key(&self) -> Option<Key> {
        Some(self.order.into())
    }
}

pub(crate) fn placed(order: u64) -> Placed {
    Placed { order, part: 0 }
}

/// What handlers saw, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn write(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
    pub(crate) fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|other| *other == line).count()
    }
}

/// A router that runs until it is stopped.
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<Result<()>>,
}

impl Running {
    pub(crate) async fn start(router: Router, bus: &Bus) -> Self {
        Self::start_in("g", router, bus).await
    }
    pub(crate) async fn start_in(group: &str, router: Router, bus: &Bus) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let router = router.subscribe(bus.group(group)).await.unwrap();
        let task = tokio::spawn(router.run(async move { stopped.await.unwrap_or_default() }));
        Self { stop, task }
    }
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.send(()).ok();
        self.task.await.unwrap()
    }
}

/// Lets everything happen that is due within ten minutes.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_mins(10)).await;
}

/// Of no group is anything waiting, being handled or dead.
pub(crate) fn nothing_is_left(memory: &Memory) {
    let all = memory.backlog();
    assert!(
        all.iter()
            .all(|backlog| backlog.waiting + backlog.in_flight + backlog.dead == 0),
        "{all:?}"
    );
}

pub(crate) fn quick(attempts: u32) -> Retry {
    Retry::exponential(Duration::from_millis(10)..Duration::from_millis(20)).attempts(attempts)
}

pub(crate) async fn reasons(bus: &Bus, topic: impl Into<Topic>) -> Vec<String> {
    let letters = bus.dead_letters(topic, "g").unwrap().list(None, 100).await.unwrap();
    letters.into_iter().map(|letter| letter.last.reason).collect()
}

pub(crate) fn refused() -> HandlerError {
    std::io::Error::other("refused").into()
}

/// The time of day as it goes on in tests, where tokio's stands still and jumps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(SystemTime, Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(SystemTime::now(), Instant::now())
    }
    pub(crate) fn now(&self) -> SystemTime {
        self.0 + self.1.elapsed()
    }
}

//! The participant's rules, each over a log in memory, in SQLite and in PostgreSQL: what is asked once is done once, whatever order
//! asks, repeats and undos come in.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../eventstore/tests/server/mod.rs"]
mod server;

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt as _;
use sagamill_bus::{Bus, Delivery, Message, MessageId, Retry, Subscribe, headers::name};
use sagamill_eventstore::{EventStore, Memory, Recorded};
use sagamill_saga::prelude::*;
use sagamill_saga::{Error, Result, wire};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reserve {
    sku: String,
}
impl Command for Reserve {
    const NAME: &'static str = "stock.reserve";
    type Reply = u64;
    type Rejection = String;
}
/// A command without an undo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Count;
impl Command for Count {
    const NAME: &'static str = "stock.count";
    type Reply = ();
    type Rejection = String;
}

/// What was done, and how the handler is to behave.
#[derive(Debug, Clone, Default)]
struct Stock(Arc<Mutex<BTreeMap<&'static str, u32>>>, Arc<Notify>);

impl Stock {
    fn count(&self, what: &'static str) -> u32 {
        let mut counts = self.0.lock().unwrap();
        let count = counts.entry(what).or_default();
        *count += 1;
        *count
    }
    fn get(&self, what: &'static str) -> u32 {
        self.0.lock().unwrap().get(what).copied().unwrap_or_default()
    }
}

async fn reserve(State(stock): State<Stock>, command: Reserve) -> Result<Answer<u64, String>, HandlerError> {
    let call = stock.count("called");
    match command.sku.as_str() {
        "gone" => return Ok(Rejected("out of stock".into())),
        "flaky" if call < 3 => return Err(std::io::Error::other("try again").into()),
        "panics" if call < 2 => panic!("a handler's bug"),
        "broken" => return Err(HandlerError::permanent("no such sku")),
        "hangs" if call < 2 => stock.1.notified().await,
        _ => {}
    }
    stock.count("reserved");
    Ok(Done(7))
}
async fn release(State(stock): State<Stock>, undo: Undo<Reserve>) {
    assert_eq!((undo.command.sku.is_empty(), undo.reply), (false, 7));
    stock.count("released");
}
async fn count(_: Count) -> Answer<(), String> {
    Done(())
}

/// A participant and a bus that asks it.
struct Kit {
    store: EventStore,
    bus: Bus,
    stock: Stock,
    running: Running,
    effect: Uuid,
    /// Where the log is, kept as long as it.
    _place: Box<dyn Any>,
}

struct Running(CancellationToken, JoinHandle<Result<()>>);

impl Running {
    fn start(store: &EventStore, bus: &Bus, stock: &Stock) -> Self {
        let stop = CancellationToken::new();
        let retry = Retry::exponential(Duration::from_millis(10)..Duration::from_millis(20)).attempts(5);
        let participant = Participant::new(store)
            .on(reserve)
            .undo(release)
            .on(count)
            .retry(retry)
            .with_state(stock.clone());
        let (bus, until) = (bus.clone(), stop.clone().cancelled_owned());
        Self(stop, tokio::spawn(async move { participant.run(&bus, until).await }))
    }
}

impl Kit {
    async fn memory() -> Option<Self> {
        Some(Self::on(Memory::new().open(), ()).await)
    }
    async fn sqlite() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("stock.db").display());
        Some(Self::on(EventStore::connect(&url).await.unwrap(), dir).await)
    }
    async fn postgres() -> Option<Self> {
        let database = server::Database::make()?;
        Some(Self::on(EventStore::connect(&database.url()).await.unwrap(), database).await)
    }
    async fn on(store: EventStore, place: impl Any) -> Self {
        let (bus, stock) = (Bus::memory(), Stock::default());
        let running = Running::start(&store, &bus, &stock);
        Self {
            store,
            bus,
            stock,
            running,
            effect: Uuid::now_v7(),
            _place: Box::new(place),
        }
    }

    fn message<C: Command>(&self, command: &C, phase: &str, attempt: u32) -> Message {
        Message::json(command)
            .unwrap()
            .key("k")
            .header(name::TYPE, C::NAME)
            .header(name::MANDATORY, "1")
            .header(wire::SAGA, Uuid::from_u128(1).to_string())
            .header(wire::DEFINITION, "order")
            .header(wire::DEFINITION_VERSION, "1")
            .header(wire::KEY, "k")
            .header(wire::STEP, "reserve")
            .header(wire::PHASE, phase)
            .header(wire::GROUP, "0")
            .header(wire::ITERATION, "1")
            .header(wire::ROUND, "1")
            .header(wire::ATTEMPT, attempt.to_string())
            .header(wire::EFFECT, self.effect.to_string())
            .header(wire::REPLY_TO, "order.v1.replies")
    }
    async fn publish(&self, message: Message) {
        while let Err(error) = self.bus.publish_to("stock.commands", [message.clone()]).await {
            assert!(matches!(error, sagamill_bus::Error::NoSubscriber { .. }), "{error}");
            pause().await;
        }
    }
    async fn ask(&self, sku: &str) -> MessageId {
        let message = self.message(&Reserve { sku: sku.into() }, wire::FORWARD, 1);
        let id = message.id;
        self.publish(message).await;
        id
    }
    async fn undo(&self, sku: &str) {
        self.publish(self.message(&Reserve { sku: sku.into() }, wire::COMPENSATE, 1))
            .await;
    }
    /// The replies so far.
    async fn replies(&self) -> Vec<(String, String)> {
        let mut read = self.store.read(format!("effect-{}", self.effect));
        let mut replies = Vec::new();
        while let Some(event) = read.next().await {
            let event: Recorded = event.unwrap();
            if event.name == wire::REPLY_TYPE {
                let outcome = event.headers.get(wire::OUTCOME).unwrap().to_owned();
                replies.push((outcome, String::from_utf8(event.event.to_vec()).unwrap()));
            }
        }
        replies
    }
    /// The outcomes of so many replies, once they are there.
    async fn outcomes(&self, count: usize) -> Vec<String> {
        loop {
            let replies = self.replies().await;
            if replies.len() >= count {
                return replies.into_iter().map(|(outcome, _)| outcome).collect();
            }
            pause().await;
        }
    }
    async fn dead(&self, count: usize) -> Vec<String> {
        let letters = self.bus.dead_letters("stock.commands", "stock").unwrap();
        loop {
            let all = letters.list(None, 10).await.unwrap_or_default();
            if all.len() >= count {
                return all.into_iter().map(|letter| letter.last.reason).collect();
            }
            pause().await;
        }
    }
    /// Waits until something has happened so often.
    async fn until(&self, what: &'static str, count: u32) {
        while self.stock.get(what) < count {
            pause().await;
        }
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

macro_rules! rules {
    ($($rule:ident),* $(,)?) => {
        mod memory {
            use super::*;
            $(#[tokio::test(start_paused = true)]
            async fn $rule() {
                super::$rule(Kit::memory().await.unwrap()).await;
            })*
        }
        mod sqlite {
            use super::*;
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(Kit::sqlite().await.unwrap()).await;
            })*
        }
        mod postgres {
            use super::*;
            $(#[tokio::test]
            async fn $rule() {
                let Some(kit) = Kit::postgres().await else { return };
                super::$rule(kit).await;
            })*
        }
    };
}
rules!(
    a_repeated_message_is_answered_once_and_acts_once,
    a_new_ask_of_a_known_effect_gets_its_first_reply_again,
    an_undo_that_comes_first_bars_its_action,
    an_undo_is_done_once_and_its_repeat_answered_again,
    an_action_after_its_undo_is_refused,
    a_rejection_leaves_nothing_to_undo,
    an_expired_command_has_no_effect_and_may_be_asked_again,
    what_expired_after_it_was_done_is_answered_as_done,
    an_error_is_tried_again_and_a_panic_is_an_error,
    a_permanent_error_is_told_to_the_saga,
    a_command_without_an_undo_cannot_be_undone,
    what_cannot_be_read_is_a_dead_letter_with_its_reason,
    a_reply_echoes_what_it_answers,
    a_stop_lets_the_handler_end,
);

async fn a_repeated_message_is_answered_once_and_acts_once(kit: Kit) {
    let message = kit.message(&Reserve { sku: "tea".into() }, wire::FORWARD, 1);
    kit.publish(message.clone()).await;
    assert_eq!(kit.outcomes(1).await, ["done"]);
    kit.publish(message.clone()).await;
    kit.publish(message).await;
    // An ask of its own shows that the repeats before it, of the same key, are through.
    kit.ask("tea").await;
    assert_eq!(kit.outcomes(2).await, ["done", "done"]);
    assert_eq!((kit.stock.get("called"), kit.stock.get("reserved")), (1, 1));
}

async fn a_new_ask_of_a_known_effect_gets_its_first_reply_again(kit: Kit) {
    kit.ask("tea").await;
    kit.ask("tea").await;
    kit.outcomes(2).await;
    assert_eq!(
        kit.replies().await,
        [("done".to_owned(), "7".to_owned()), ("done".to_owned(), "7".to_owned())]
    );
    assert_eq!(kit.stock.get("called"), 1);
}

async fn an_undo_that_comes_first_bars_its_action(kit: Kit) {
    kit.undo("tea").await;
    assert_eq!(kit.outcomes(1).await, ["done"]);
    kit.ask("tea").await;
    assert_eq!(kit.outcomes(2).await, ["done", "rejected"]);
    kit.undo("tea").await;
    assert_eq!(kit.outcomes(3).await, ["done", "rejected", "done"]);
    assert_eq!((kit.stock.get("called"), kit.stock.get("released")), (0, 0));
}

async fn an_undo_is_done_once_and_its_repeat_answered_again(kit: Kit) {
    kit.ask("tea").await;
    kit.undo("tea").await;
    kit.undo("tea").await;
    assert_eq!(kit.outcomes(3).await, ["done", "done", "done"]);
    assert_eq!((kit.stock.get("reserved"), kit.stock.get("released")), (1, 1));
}

async fn an_action_after_its_undo_is_refused(kit: Kit) {
    kit.ask("tea").await;
    kit.undo("tea").await;
    kit.ask("tea").await;
    assert_eq!(kit.outcomes(3).await, ["done", "done", "rejected"]);
    assert_eq!(kit.stock.get("reserved"), 1);
}

async fn a_rejection_leaves_nothing_to_undo(kit: Kit) {
    kit.ask("gone").await;
    kit.undo("gone").await;
    kit.ask("gone").await;
    assert_eq!(kit.outcomes(3).await, ["rejected", "done", "rejected"]);
    assert_eq!((kit.stock.get("called"), kit.stock.get("released")), (1, 0));
}

async fn an_expired_command_has_no_effect_and_may_be_asked_again(kit: Kit) {
    let past = kit.store.now() - jiff::SignedDuration::from_secs(1);
    let message = kit
        .message(&Reserve { sku: "tea".into() }, wire::FORWARD, 1)
        .header(name::EXPIRY, past.to_string());
    kit.publish(message).await;
    assert_eq!(kit.outcomes(1).await, ["expired"]);
    assert_eq!(kit.stock.get("called"), 0);
    kit.ask("tea").await;
    assert_eq!(kit.outcomes(2).await, ["expired", "done"]);
}

async fn what_expired_after_it_was_done_is_answered_as_done(kit: Kit) {
    kit.ask("tea").await;
    let past = kit.store.now() - jiff::SignedDuration::from_secs(1);
    let message = kit
        .message(&Reserve { sku: "tea".into() }, wire::FORWARD, 2)
        .header(name::EXPIRY, past.to_string());
    kit.publish(message).await;
    assert_eq!(kit.outcomes(2).await, ["done", "done"]);
}

async fn an_error_is_tried_again_and_a_panic_is_an_error(mut kit: Kit) {
    kit.ask("flaky").await;
    assert_eq!(kit.outcomes(1).await, ["done"]);
    assert_eq!((kit.stock.get("called"), kit.stock.get("reserved")), (3, 1));
    (kit.effect, *kit.stock.0.lock().unwrap()) = (Uuid::now_v7(), BTreeMap::new());
    kit.ask("panics").await;
    assert_eq!(kit.outcomes(1).await, ["done"]);
    assert_eq!((kit.stock.get("called"), kit.stock.get("reserved")), (2, 1));
}

async fn a_permanent_error_is_told_to_the_saga(kit: Kit) {
    kit.ask("broken").await;
    kit.outcomes(1).await;
    assert_eq!(
        kit.replies().await,
        [("failed".to_owned(), r#"{"error":"no such sku"}"#.to_owned())]
    );
    assert_eq!(kit.stock.get("called"), 1);
}

async fn a_command_without_an_undo_cannot_be_undone(mut kit: Kit) {
    // Where it never ran, there is nothing to undo, and no handler needed to say so.
    kit.publish(kit.message(&Count, wire::COMPENSATE, 1)).await;
    assert_eq!(kit.outcomes(1).await, ["done"]);
    kit.effect = Uuid::now_v7();
    kit.publish(kit.message(&Count, wire::FORWARD, 1)).await;
    kit.publish(kit.message(&Count, wire::COMPENSATE, 1)).await;
    assert_eq!(kit.outcomes(2).await, ["done", "failed"]);
}

async fn what_cannot_be_read_is_a_dead_letter_with_its_reason(kit: Kit) {
    let good = || kit.message(&Reserve { sku: "tea".into() }, wire::FORWARD, 1);
    kit.publish(good().header(name::TYPE, "stock.unheard-of")).await;
    kit.publish(good().header(wire::EFFECT, "not an id")).await;
    kit.publish(Message {
        payload: "no json".into(),
        ..good()
    })
    .await;
    let dead = kit.dead(3).await;
    assert!(dead[0].contains("stock.unheard-of"), "{dead:?}");
    assert!(dead[1].contains(wire::EFFECT), "{dead:?}");
    assert_eq!(kit.stock.get("called"), 0);
    kit.ask("tea").await;
    assert_eq!(kit.outcomes(1).await, ["done"]);
}

async fn a_reply_echoes_what_it_answers(kit: Kit) {
    let request = Subscribe::new("order.v1.replies", "coordinator");
    let mut replies = kit.bus.subscribe(request).await.unwrap();
    let asked = kit.ask("tea").await;
    let reply: Delivery = futures_util::StreamExt::next(&mut replies).await.unwrap().unwrap();
    let headers = &reply.message.headers;
    assert_eq!(
        reply.message.id,
        MessageId::derived(asked.0, &format!("effect-{}", kit.effect), 0)
    );
    assert_eq!(reply.message.key, Some("k".into()));
    assert_eq!(reply.message.payload, "7");
    for (header, value) in [
        (name::TYPE, "saga.reply"),
        (wire::OUTCOME, "done"),
        (wire::STEP, "reserve"),
        (wire::ATTEMPT, "1"),
        (wire::EFFECT, &kit.effect.to_string()),
        (name::CAUSATION, &asked.to_string()),
    ] {
        assert_eq!(headers.get(header), Some(value), "{header}");
    }
    reply.ack().await.unwrap();
}

async fn a_stop_lets_the_handler_end(mut kit: Kit) {
    kit.ask("hangs").await;
    kit.until("called", 1).await;
    kit.running.0.cancel();
    pause().await;
    assert!((&mut kit.running.1).now_or_never().is_none());
    kit.stock.1.notify_one();
    (&mut kit.running.1).await.unwrap().unwrap();
    assert_eq!(kit.outcomes(1).await, ["done"]);
}

#[tokio::test(start_paused = true)]
async fn two_handlers_of_one_command_are_refused() {
    let participant = Participant::new(&EventStore::memory())
        .on(count)
        .on(count)
        .with_state(());
    let ran = participant.run(&Bus::memory(), std::future::pending()).await;
    assert!(matches!(ran, Err(Error::Participant { .. })), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn an_undo_waits_for_whoever_is_at_the_action_and_learns_its_end_where_nobody_is() {
    let mut kit = Kit::memory().await.unwrap();
    let started = tokio::time::Instant::now();
    kit.ask("hangs").await;
    kit.until("called", 1).await;
    // As a power cut would: the row says that it is started, by a process that is gone, under a lease of half a minute.
    kit.running.1.abort();
    let _ = (&mut kit.running.1).await;
    kit.running = Running::start(&kit.store, &kit.bus, &kit.stock);
    kit.undo("hangs").await;
    assert_eq!(kit.outcomes(2).await, ["done", "done"]);
    assert!(started.elapsed() >= Duration::from_secs(29), "{:?}", started.elapsed());
    assert_eq!((kit.stock.get("reserved"), kit.stock.get("released")), (1, 1));
}

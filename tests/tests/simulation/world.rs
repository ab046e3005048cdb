//! What the participants change: a ledger of effects, and the trouble that the world makes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use sagamill::{bus::HandlerError, prelude::*};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::trace::Trace;

/// What the saga knows from its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The version of the definition that it is started by.
    pub(crate) version: u32,
    /// The saga's number in its schedule.
    pub(crate) number: u32,
    /// The step that says no; none: all agree.
    pub(crate) rejected_at: Option<String>,
    /// What the steps replied, folded in order.
    pub(crate) replies: Vec<u64>,
}

impl Plan {
    fn ask(&self, step: &str) -> Ask {
        Ask {
            number: self.number,
            reject: self.rejected_at.as_deref() == Some(step),
        }
    }
}

/// What a handler says that panics on purpose.
pub(crate) const PANIC: &str = "the handler panics";

/// What every step asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) number: u32,
    pub(crate) reject: bool,
}

macro_rules! commands {
    ($($name:ident $wire:literal),*) => {$(
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub(crate) struct $name(pub(crate) Ask);
        impl Command for $name {
            const NAME: &'static str = $wire;
            type Reply = u64;
            type Rejection = String;
        }
        impl AsRef<Ask> for $name {
            fn as_ref(&self) -> &Ask {
                &self.0
            }
        }
    )*};
}
commands!(Reserve "stock.reserve", Authorize "money.authorize", Book "parcel.book", Capture "money.capture", Notify "parcel.notify");

/// The steps before the pivot, in order; each has an undo.
pub(crate) const UNDOABLE: [&str; 3] = ["reserve", "authorize", "book"];
/// The pivot, and what follows it; the last of them in the second version alone.
pub(crate) const FINAL: [&str; 4] = ["capture", "notify", "confirm", "archive"];
/// The versions of the definition.
pub(crate) const VERSIONS: [u32; 2] = [1, 2];

/// The pivot and what follows it in a version.
pub(crate) fn last_steps(version: u32) -> &'static [&'static str] {
    if version == 1 { &FINAL[..3] } else { &FINAL }
}

/// What a program knows of the shop's saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    /// The first version, as it was first written.
    Old,
    /// The first version, with other words for two of its steps.
    Renamed,
    /// The second version, and no other.
    New,
    /// Both versions, and the other words in the first.
    Whole,
}

impl Binary {
    pub(crate) const ALL: [Self; 4] = [Self::Old, Self::Renamed, Self::New, Self::Whole];

    pub(crate) fn definitions(self) -> Vec<Definition<Plan>> {
        match self {
            Self::Old => vec![place_order(1, false)],
            Self::Renamed => vec![place_order(1, true)],
            Self::New => vec![place_order(2, false)],
            Self::Whole => vec![place_order(1, true), place_order(2, false)],
        }
    }
}

/// The first name of a step, whichever it has.
pub(crate) fn first_name(step: &str) -> &str {
    match step {
        "hold" => "reserve",
        "close" => "confirm",
        step => step,
    }
}

/// The shop's saga, with local steps at its end.
fn place_order(version: u32, is_renamed: bool) -> Definition<Plan> {
    let patience = Retry::exponential(Duration::from_millis(200)..Duration::from_secs(5));
    let reserve = call(|plan: &Plan| Reserve(plan.ask("reserve")))
        .on_reply(|plan, n| plan.replies.push(n))
        .undo()
        .timeout(Duration::from_secs(2))
        .retry(patience.clone());
    let (reserve, confirm) = match is_renamed {
        true => (
            ("hold", reserve.was("reserve")),
            ("close", local(confirm).was("confirm")),
        ),
        false => (("reserve", reserve), ("confirm", local(confirm))),
    };
    let saga = Saga::define("place-order")
        .version(version)
        .step(reserve.0, reserve.1)
        .step(
            "authorize",
            call(|plan: &Plan| Authorize(plan.ask("authorize")))
                .on_reply(|plan, n| plan.replies.push(n))
                .undo()
                .timeout(Duration::from_secs(2))
                .retry(patience.clone()),
        )
        .step(
            "book",
            call(|plan: &Plan| Book(plan.ask("book")))
                .on_reply(|plan, n| plan.replies.push(n))
                .undo()
                .undo_in_doubt()
                .timeout(Duration::from_secs(1))
                .retry(patience.clone().attempts(3)),
        )
        .pivot(
            "capture",
            call(|plan: &Plan| Capture(plan.ask("capture")))
                .on_reply(|plan, n| plan.replies.push(n))
                .timeout(Duration::from_secs(2))
                .retry(patience.clone()),
        )
        .step(
            "notify",
            call(|plan: &Plan| Notify(plan.ask("notify")))
                .timeout(Duration::from_secs(2))
                .retry(patience),
        )
        .step(confirm.0, confirm.1);
    if version == 1 {
        saga.build()
    } else {
        saga.step("archive", local(archive)).build()
    }
}

async fn archive(State(world): State<World>, saga: SagaContext, plan: Plan) -> Result<Answer<()>, HandlerError> {
    world.trouble().await?;
    world.books().forward(saga.effect, plan.number, "archive");
    Ok(Done(()))
}

async fn confirm(State(world): State<World>, saga: SagaContext, plan: Plan) -> Result<Answer<()>, HandlerError> {
    world.trouble().await?;
    world.books().forward(saga.effect, plan.number, "confirm");
    world.trouble().await?;
    Ok(Done(()))
}

/// What was done to one effect, in order: `A` done, `C` undone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effect {
    pub(crate) saga: u32,
    pub(crate) step: String,
    pub(crate) acts: String,
}

/// All effects, by their id.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) effects: BTreeMap<Uuid, Effect>,
    /// What no schedule may ever show.
    pub(crate) broken: Vec<String>,
}

impl Books {
    /// The effect of an action: idempotent by its id, as any effect outside a database has to be.
    fn forward(&mut self, id: Uuid, saga: u32, step: &str) -> u64 {
        let effect = self.effects.entry(id).or_insert_with(|| Effect {
            saga,
            step: step.to_owned(),
            acts: String::new(),
        });
        match effect.acts.as_str() {
            "" => effect.acts.push('A'),
            "A" => {}
            after => self.broken.push(format!("{step} of saga {saga} acted after {after}")),
        }
        u64::from(saga)
    }
    fn undo(&mut self, id: Uuid, saga: u32, step: &str) {
        match self.effects.get_mut(&id) {
            Some(effect) if effect.acts == "A" => effect.acts.push('C'),
            Some(effect) if effect.acts == "AC" => {}
            _ => self
                .broken
                .push(format!("{step} of saga {saga} was undone, but had never been done")),
        }
    }
}

/// The participants' side of a schedule. Cheap to clone.
#[derive(Clone)]
pub(crate) struct World {
    trace: Trace,
    books: Arc<Mutex<Books>>,
    dice: Arc<Mutex<SmallRng>>,
    calm: Arc<std::sync::atomic::AtomicBool>,
}

impl World {
    pub(crate) fn new(seed: u64, trace: &Trace) -> Self {
        Self {
            trace: trace.clone(),
            books: Arc::default(),
            dice: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed ^ 0xB00C))),
            calm: Arc::default(),
        }
    }
    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("invariant: no panic under this lock")
    }
    /// From now on nothing goes wrong.
    pub(crate) fn calm(&self) {
        self.calm.store(true, std::sync::atomic::Ordering::Relaxed);
    }
    fn roll(&self, range: std::ops::Range<u32>) -> u32 {
        let roll = self
            .dice
            .lock()
            .expect("invariant: no panic under this lock")
            .random_range(range);
        self.trace.note(format_args!("the world rolls {roll}"));
        roll
    }
    /// Waits, or fails, or panics, or none of it.
    async fn trouble(&self) -> Result<(), HandlerError> {
        if self.calm.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(());
        }
        match self.roll(0..20) {
            0 => Err(HandlerError::from(std::io::Error::other("the world makes trouble"))),
            1 => std::panic::panic_any(PANIC),
            2..6 => {
                tokio::time::sleep(Duration::from_millis(u64::from(self.roll(1..4_000)))).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Does what a command asks, or refuses it.
pub(crate) async fn act<C>(world: World, saga: SagaContext, command: C) -> Result<Answer<u64, String>, HandlerError>
where
    C: Command + AsRef<Ask>,
{
    world.trouble().await?;
    let ask = command.as_ref().clone();
    if ask.reject {
        return Ok(Rejected(format!("{} says no", saga.step)));
    }
    let reply = world.books().forward(saga.effect, ask.number, first_name(&saga.step));
    world.trouble().await?;
    Ok(Done(reply))
}

/// Undoes what a command did.
pub(crate) async fn undo<C>(world: World, saga: SagaContext, undo: Undo<C>) -> Result<(), HandlerError>
where
    C: Command + AsRef<Ask>,
{
    world.trouble().await?;
    world
        .books()
        .undo(saga.effect, undo.command.as_ref().number, first_name(&saga.step));
    world.trouble().await
}

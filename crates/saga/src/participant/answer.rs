//! One command, from its delivery to its settlement.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc, time::Duration};

use futures_core::future::BoxFuture;
use sagamill_bus::headers::name;
use sagamill_bus::{
    BoxError, Bus, Delivery, ErrorClass, Incoming, Message, MessageId, Retry, Route, RouteLayer, Settlement,
};
use tower::{ServiceExt as _, service_fn};

use super::{Request, SagaContext, request};
use crate::barrier::{Answered, Effect, Gate, Given, Phase, Slot, Verdict};
use crate::handling::Handling;
use crate::{chain, metric_definitions as metric};

/// How often a command finds its effect being worked on before it is given up: its saga then asks again.
const BUSY_ATTEMPTS_MAX: u32 = 300;

type Wrap = Arc<dyn Fn(Route<()>) -> Route<()> + Send + Sync>;

/// One handler and what stands around it.
pub(super) struct Handled<S, D> {
    handling: Handling<Request<S, D>>,
    layers: Vec<Wrap>,
    pub(super) retry: Retry,
}

impl<S: Clone + Send + Sync + 'static, D: 'static> Handled<S, D> {
    pub(super) fn new(handling: Handling<Request<S, D>>) -> Self {
        Self {
            handling,
            layers: Vec::new(),
            retry: Retry::default(),
        }
    }
    pub(super) fn layer(&mut self, layer: impl RouteLayer) {
        self.layers.push(Arc::new(move |route| layer.wrap(route)));
    }
    pub(super) fn with_state(self, state: S) -> Handled<(), D> {
        let run = self.handling.run;
        let bound = move |cx: Request<(), D>, given| run(cx.with_state(state.clone()), given);
        let handling = Handling {
            is_transactional: self.handling.is_transactional,
            run: Arc::new(bound),
        };
        Handled {
            handling,
            layers: self.layers,
            retry: self.retry,
        }
    }
}

/// Handlers by what they handle.
pub(super) type Handlers<S, D> = BTreeMap<(&'static str, Phase), Handled<S, D>>;

/// All handlers, behind one barrier.
pub(super) struct Desk {
    gate: Arc<Gate>,
    bus: Bus,
    commands: BTreeMap<&'static str, BTreeMap<Phase, Served>>,
}

struct Served {
    route: Route<()>,
    retry: Retry,
}

impl Desk {
    pub(super) fn new<D: 'static>(gate: &Arc<Gate>, bus: &Bus, handlers: &Handlers<(), D>) -> Arc<Self> {
        let mut commands = BTreeMap::new();
        for (name, _) in handlers.keys() {
            let serve = |phase| (phase, serve(gate, handlers, name, phase));
            commands.insert(*name, BTreeMap::from([Phase::Forward, Phase::Compensate].map(serve)));
        }
        Arc::new(Self {
            gate: gate.clone(),
            bus: bus.clone(),
            commands,
        })
    }
    /// Handles a command and settles it: after its effect and its reply are committed, never before.
    pub(super) async fn handle(&self, delivery: Delivery) {
        let settlement = self.answer(&delivery).await;
        let id = delivery.message.id;
        fail::fail_point!("participant.settle.before");
        if let Err(error) = delivery.settle(settlement).await {
            tracing::debug!(message = %id, %error, "a command could not be settled; it will come again");
        }
        fail::fail_point!("participant.settle.after");
    }

    async fn answer(&self, delivery: &Delivery) -> Settlement {
        let message = &delivery.message;
        let command = message.headers.get(name::TYPE).unwrap_or_default();
        let Some(phases) = self.commands.get(command) else {
            return dead(format!("no handler for the command `{command}` here"));
        };
        let ask = match request::read(message) {
            Ok(ask) => ask,
            Err(malformed) => return dead(malformed.to_string()),
        };
        if delivery.attempt > BUSY_ATTEMPTS_MAX {
            // None of the last ones came to an end: it may be what ends this process.
            return dead(format!(
                "gave up after {BUSY_ATTEMPTS_MAX} attempts, of which the last never came to an end"
            ));
        }
        let Served { route, retry } = &phases[&ask.phase];
        let (topic, attempt) = (delivery.topic.clone(), delivery.attempt);
        let incoming = Incoming::new(message.clone(), topic, attempt, &self.bus, command);
        let answered = match route.clone().oneshot(incoming).await {
            Err(error) if ErrorClass::of(&*error) == ErrorClass::Permanent => {
                // Its saga is told, in place of a dead letter that it would wait for.
                let failed = self.gate.fail(&ask, chain(&*error)).await;
                failed
                    .map(|verdict| settlement(&ask.command_name, ask.phase, &verdict, attempt))
                    .map_err(BoxError::from)
            }
            answered => answered,
        };
        answered.unwrap_or_else(|error| {
            let why = chain(&*error);
            tracing::warn!(command, step = ask.step, attempt, error = why, "a command failed");
            let wait = next(retry, message.id, attempt).filter(|_| ErrorClass::of(&*error) == ErrorClass::Transient);
            wait.map_or_else(|| dead(why), |wait| Settlement::Retry { after: Some(wait) })
        })
    }
}

/// One phase of one command: its handler inside its layers. Without a handler it still says what can be said without one.
fn serve<D: 'static>(gate: &Arc<Gate>, handlers: &Handlers<(), D>, name: &'static str, phase: Phase) -> Served {
    let handling = |phase| handlers.get(&(name, phase)).map(|handled| handled.handling.clone());
    let (gate, action, undo) = (gate.clone(), handling(Phase::Forward), handling(Phase::Compensate));
    let route = Route::new(service_fn(move |incoming: Incoming| {
        let (gate, action, undo) = (gate.clone(), action.clone(), undo.clone());
        async move {
            let Incoming { message, attempt, .. } = incoming;
            let ask = request::read(&message)?;
            let effect = |handling| CommandEffect {
                handling,
                message: message.clone(),
            };
            let (action, undo) = (action.map(effect), undo.map(effect));
            let action = action.as_ref().map(|action| action as &dyn Effect);
            let undo = undo.as_ref().map(|undo| undo as &dyn Effect);
            let verdict = gate.pass(&ask, action, undo).await?;
            Ok(settlement(&ask.command_name, phase, &verdict, attempt))
        }
    }));
    let Some(handled) = handlers.get(&(name, phase)) else {
        return Served {
            route,
            retry: Retry::default(),
        };
    };
    let route = handled.layers.iter().fold(route, |route, wrap| wrap(route));
    Served {
        route,
        retry: handled.retry.clone(),
    }
}

fn settlement(command: &str, phase: Phase, verdict: &Verdict, attempt: u32) -> Settlement {
    match verdict {
        Verdict::Busy(wait) if attempt < BUSY_ATTEMPTS_MAX => Settlement::Retry { after: Some(*wait) },
        Verdict::Busy(_) => dead("its effect has been at work for too long".to_owned()),
        verdict => {
            metric::command_answered(command, phase, verdict);
            Settlement::Ack
        }
    }
}

/// What follows a failed attempt: a wait, or none where the command is given up.
fn next(retry: &Retry, id: MessageId, attempt: u32) -> Option<Duration> {
    let given_up = retry.attempts_max.is_some_and(|max| attempt >= max);
    let held = (1..=attempt.min(1_000))
        .map(|earlier| retry.backoff(id, earlier))
        .sum::<Duration>();
    (!given_up && held <= retry.hold_max).then(|| retry.backoff(id, attempt))
}

fn dead(reason: String) -> Settlement {
    Settlement::Dead { reason }
}

/// A handler with the message that asks for it.
struct CommandEffect<D> {
    handling: Handling<Request<(), D>>,
    message: Message,
}

impl<D: 'static> Effect for CommandEffect<D> {
    fn is_transactional(&self) -> bool {
        self.handling.is_transactional
    }
    fn run(&self, given: Given, slot: Slot) -> BoxFuture<'static, Result<Answered, BoxError>> {
        let (message, saga) = (self.message.clone(), SagaContext::of(&given.ask));
        let request = Request {
            message,
            saga,
            state: (),
            slot,
            database: PhantomData,
        };
        (self.handling.run)(request, given)
    }
}

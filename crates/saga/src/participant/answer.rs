//! One command, from its delivery to its settlement.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc, time::Duration};

use futures_core::future::BoxFuture;
use sagamill_bus::headers::name;
use sagamill_bus::{BoxError, Delivery, ErrorClass, Message, MessageId, Retry, RouteLayer, Settlement};

use super::{Request, SagaContext, request};
use crate::barrier::{Answered, Ask, Effect, Gate, Given, Phase, Slot, Verdict};
use crate::handling::Handling;
use crate::{Error, metric_definitions as metric};

/// How often a command finds its effect being worked on before it is given up: its saga then asks again.
const BUSY_ATTEMPTS_MAX: u32 = 300;

/// One handler and what stands around it.
pub(super) struct Handled<S, D> {
    handling: Handling<Request<S, D>>,
    pub(super) retry: Retry,
}

impl<S: Clone + Send + Sync + 'static, D: 'static> Handled<S, D> {
    pub(super) fn new(handling: Handling<Request<S, D>>) -> Self {
        Self { handling, retry: Retry::default() }
    }
    pub(super) fn layer(&mut self, _layer: impl RouteLayer) {
        todo!()
    }
    pub(super) fn with_state(self, state: S) -> Handled<(), D> {
        let run = self.handling.run;
        let bound = move |cx: Request<(), D>, given| run(cx.with_state(state.clone()), given);
        let handling = Handling { is_transactional: self.handling.is_transactional, run: Arc::new(bound) };
        Handled { handling, retry: self.retry }
    }
}

/// All handlers, behind one barrier.
pub(super) struct Desk<D> {
    gate: Arc<Gate>,
    handlers: BTreeMap<(&'static str, Phase), Handled<(), D>>,
}

impl<D: 'static> Desk<D> {
    pub(super) fn new(gate: Arc<Gate>, handlers: BTreeMap<(&'static str, Phase), Handled<(), D>>) -> Arc<Self> {
        Arc::new(Self { gate, handlers })
    }
    /// Handles a command and settles it: after its effect and its reply are committed, never before.
    pub(super) async fn handle(&self, delivery: Delivery) {
        let settlement = self.answer(&delivery.message, delivery.attempt).await;
        fail::fail_point!("participant.settle.before");
        let id = delivery.message.id;
        if let Err(error) = delivery.settle(settlement).await {
            tracing::debug!(message = %id, %error, "a command could not be settled; it will come again");
        }
        fail::fail_point!("participant.settle.after");
    }

    async fn answer(&self, message: &Message, attempt: u32) -> Settlement {
        let Some(command) = message.headers.get(name::TYPE).filter(|name| self.knows(name)) else {
            let command = message.headers.get(name::TYPE).unwrap_or_default();
            return dead(format!("no handler for the command `{command}` here"));
        };
        let ask = match request::read(message) {
            Ok(ask) => ask,
            Err(malformed) => return dead(malformed.to_string()),
        };
        let passed = self.pass(command, &ask, message).await;
        let passed = match passed {
            Err(error) if ErrorClass::of(&*error) == ErrorClass::Permanent => {
                self.gate.fail(&ask, chain(&*error)).await.map_err(Error::into)
            }
            passed => passed,
        };
        let retry = self.handler(command, ask.phase).map(|handled| &handled.retry);
        self.settlement(&ask, passed, retry, message.id, attempt)
    }

    async fn pass(&self, command: &str, ask: &Ask, message: &Message) -> Result<Verdict, BoxError> {
        let effect = |phase| {
            let handling = self.handler(command, phase)?.handling.clone();
            Some(CommandEffect { handling, message: message.clone() })
        };
        let (action, undo) = (effect(Phase::Forward), effect(Phase::Compensate));
        self.gate.pass(ask, action.as_ref().map(|e| e as &dyn Effect), undo.as_ref().map(|e| e as &dyn Effect)).await
    }

    fn settlement(
        &self,
        ask: &Ask,
        passed: Result<Verdict, BoxError>,
        retry: Option<&Retry>,
        id: MessageId,
        attempt: u32,
    ) -> Settlement {
        match passed {
            Ok(Verdict::Busy(wait)) if attempt < BUSY_ATTEMPTS_MAX => Settlement::Retry { after: Some(wait) },
            Ok(Verdict::Busy(_)) => dead(format!("the effect {} has been at work for too long", ask.effect)),
            Ok(verdict) => {
                metric::command_answered(&ask.command_name, ask.phase, &verdict);
                Settlement::Ack
            }
            Err(error) => {
                let why = chain(&*error);
                tracing::warn!(command = ask.command_name, step = ask.step, attempt, error = why, "a command failed");
                match retry.and_then(|retry| next(retry, id, attempt)) {
                    Some(wait) if ErrorClass::of(&*error) == ErrorClass::Transient => {
                        Settlement::Retry { after: Some(wait) }
                    }
                    _ => dead(why),
                }
            }
        }
    }

    fn handler(&self, command: &str, phase: Phase) -> Option<&Handled<(), D>> {
        self.handlers.iter().find(|((name, of), _)| *name == command && *of == phase).map(|(_, handled)| handled)
    }
    fn knows(&self, command: &str) -> bool {
        self.handlers.keys().any(|(name, _)| *name == command)
    }
}

/// What follows a failed attempt: a wait, or none where the command is given up.
fn next(retry: &Retry, id: MessageId, attempt: u32) -> Option<Duration> {
    let given_up = retry.attempts_max.is_some_and(|max| attempt >= max);
    let held = (1..=attempt.min(1_000)).map(|earlier| retry.backoff(id, earlier)).sum::<Duration>();
    (!given_up && held <= retry.hold_max).then(|| retry.backoff(id, attempt))
}

fn dead(reason: String) -> Settlement {
    Settlement::Dead { reason }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
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
        let request = Request { message, saga, state: (), slot, database: PhantomData };
        (self.handling.run)(request, given)
    }
}

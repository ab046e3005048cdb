//! Sagas of each kind, explored with the kit that users have.

use std::time::Duration;

use super::fixture::{Charge, Notify, Order, Release, Reserve, Ship, saga};
use crate::{
    Answer::{self, Done, Rejected},
    Definition, Never, Outcome, Retry, Saga, Undo, call, local,
    test::Explore,
};

/// What the participants change. A hold is undone by a release.
#[derive(Debug, Clone, Default)]
struct World {
    reserved: Vec<String>,
    charged: u32,
    shipped: u32,
    notified: u32,
}

fn order() -> Order {
    Order {
        sku: "tea".into(),
        ..Order::default()
    }
}

fn explore(definition: Definition<Order>) -> Explore<Order, World> {
    Explore::new(definition, order(), World::default())
        .on(|world: &mut World, Reserve(sku)| {
            world.reserved.push(sku);
            Done(7 + world.reserved.len() as u64)
        })
        .undo(|world, undo: Undo<Reserve>| world.reserved.retain(|sku| *sku != undo.command.0))
        .on(|world: &mut World, Release(_)| {
            world.reserved.retain(|sku| !sku.ends_with("-gift"));
            Done(())
        })
        .on(|world: &mut World, Notify(_)| {
            world.notified += 1;
            Done(())
        })
        .on(|world: &mut World, Charge(_)| {
            world.charged += 1;
            Done(())
        })
        .on(|world: &mut World, Ship(_)| {
            world.shipped += 1;
            Done("parcel".to_owned())
        })
        .check("what is reserved is paid and shipped", |world, outcome| match outcome {
            Outcome::Completed(_) => world.charged == 1 && world.shipped == 1,
            Outcome::Compensated { .. } => world.reserved.is_empty() && world.charged == 0 && world.shipped == 0,
            Outcome::Parked { .. } => true,
        })
}

fn play(explore: &Explore<Order, World>, schedules: u32) {
    explore.fail_at_every_step();
    explore.repeat_every_step();
    explore.schedules(schedules);
}

#[test]
fn steps_one_after_the_other() {
    play(&explore(saga()), 1500);
}

/// The steps before the pivot at the same time: undone by the participant, by a command, not at all.
#[test]
fn steps_side_by_side() {
    play(&explore(saga().in_stages(&[0..3, 3..4, 4..5], None)), 1500);
}

#[test]
fn some_steps_side_by_side_at_a_time() {
    play(&explore(saga().in_stages(&[0..3, 3..4, 4..5], Some(2))), 800);
}

fn impatient(definition: &str) -> Definition<Order> {
    let retry = || Retry::exponential(Duration::from_millis(50)..Duration::from_secs(1)).attempts(2);
    let name: &'static str = if definition == "undo" {
        "undo-in-doubt"
    } else {
        "park-in-doubt"
    };
    let reserve = call(|order: &Order| Reserve(order.sku.clone()))
        .timeout(Duration::from_secs(2))
        .retry(retry())
        .undo();
    let hold = call(|order: &Order| Reserve(format!("{}-gift", order.sku)))
        .retry(retry())
        .undo_with(|_, id| Release(id.to_string()));
    let charge = call(|_: &Order| Charge("1".into()))
        .timeout(Duration::from_secs(1))
        .retry(retry())
        .park_in_doubt();
    let (reserve, hold) = match definition {
        "undo" => (reserve.undo_in_doubt(), hold.undo_in_doubt()),
        _ => (reserve.park_in_doubt(), hold.park_in_doubt()),
    };
    Saga::define(name)
        .deadline(Duration::from_mins(5))
        .step("reserve", reserve)
        .step("hold", hold)
        .step(
            "notify",
            call(|_: &Order| Notify("ann".into()))
                .when(|order| order.reservation > 0)
                .no_undo(),
        )
        .pivot("charge", charge)
        .step("ship", call(|_: &Order| Ship("tea".into())))
        .build()
}

#[test]
fn steps_in_doubt_are_undone() {
    play(&explore(impatient("undo")), 1500);
}

#[test]
fn steps_in_doubt_are_parked() {
    play(&explore(impatient("park")), 1500);
}

async fn never_run(_: Order) -> Answer<u64, String> {
    Rejected("the model runs in its place".into())
}
async fn never_undone(_: u64) {}
async fn never_refused(_: Order) -> Answer<u64, Never> {
    Done(1)
}

fn in_process() -> Definition<Order> {
    Saga::define("in-process")
        .deadline(Duration::from_mins(5))
        .step(
            "hold",
            local(never_run)
                .on_reply(|order, id| order.reservation = id)
                .undo(never_undone),
        )
        .step("look", local(never_refused).no_undo())
        .pivot(
            "charge",
            local(never_run).on_rejection(|order, why| order.notes.push(why)),
        )
        .step("ship", local(never_refused))
        .build()
}

fn explore_local(definition: Definition<Order>) -> Explore<Order, World> {
    Explore::new(definition, order(), World::default())
        .local("hold", |world: &mut World, order: Order| {
            world.reserved.push(order.sku);
            Answer::<_, String>::Done(7_u64)
        })
        .local_undo("hold", |world, id: u64| {
            assert_eq!(id, 7, "an undo is given its step's reply");
            world.reserved.clear();
        })
        .local("look", |_: &mut World, _| Answer::<_, Never>::Done(1_u64))
        .local("charge", |world: &mut World, _| {
            world.charged += 1;
            Answer::<_, String>::Done(2_u64)
        })
        .local("ship", |world: &mut World, _| {
            world.shipped += 1;
            Answer::<_, Never>::Done(3_u64)
        })
        .check("what is held is paid", |world, outcome| match outcome {
            Outcome::Completed(_) => world.charged == 1 && world.reserved.len() == 1,
            Outcome::Compensated { .. } => world.charged == 0 && world.reserved.is_empty(),
            Outcome::Parked { .. } => true,
        })
}

#[test]
fn local_steps() {
    play(&explore_local(in_process()), 1500);
}

#[test]
fn local_steps_side_by_side() {
    play(&explore_local(in_process().in_stages(&[0..2, 2..4], None)), 800);
}

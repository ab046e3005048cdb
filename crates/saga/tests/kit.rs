//! The test kit as its users have it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sagamill_saga::{
    Command, Never,
    prelude::*,
    test::{Explore, SagaTest},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Order {
    quantity: u32,
    reservation: u64,
    parcel: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reserve {
    quantity: u32,
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OutOfStock {
    left: u32,
}
impl Command for Reserve {
    const NAME: &'static str = "inventory.reserve";
    type Reply = u64;
    type Rejection = OutOfStock;
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Charge;
impl Command for Charge {
    const NAME: &'static str = "payment.charge";
    type Reply = ();
    type Rejection = ();
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Ship {
    reservation: u64,
}
impl Command for Ship {
    const NAME: &'static str = "shipping.ship";
    type Reply = u64;
    type Rejection = Never;
}

async fn look_up(order: Order) -> Answer<bool> {
    Done(order.quantity < 100)
}

fn place_order() -> Definition<Order> {
    Saga::define("place-order")
        .deadline(std::time::Duration::from_mins(10))
        .step("look-up", local(look_up).no_undo())
        .step(
            "reserve",
            call(|order: &Order| Reserve {
                quantity: order.quantity,
            })
            .on_reply(|order, reservation| order.reservation = reservation)
            .undo(),
        )
        .pivot("charge", call(|_: &Order| Charge))
        .step(
            "ship",
            call(|order: &Order| Ship {
                reservation: order.reservation,
            })
            .on_reply(|order, parcel| order.parcel = Some(parcel)),
        )
        .build()
}

fn order() -> Order {
    Order {
        quantity: 2,
        ..Order::default()
    }
}

fn reserved() -> SagaTest<Order> {
    SagaTest::start(place_order(), order())
        .local("look-up", true)
        .expect(Reserve { quantity: 2 })
        .done(7)
}

#[test]
fn what_is_paid_is_shipped() {
    let order = reserved()
        .expect(Charge)
        .done(())
        .expect(Ship { reservation: 7 })
        .done(9)
        .completed();
    assert_eq!(
        order,
        Order {
            quantity: 2,
            reservation: 7,
            parcel: Some(9)
        }
    );
}

#[test]
fn a_declined_card_releases_the_stock() {
    let order = reserved()
        .expect(Charge)
        .rejected(())
        .expect_undo::<Reserve>()
        .compensated();
    assert_eq!(order.parcel, None);
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let order = reserved()
        .expect(Charge)
        .unknown()
        .expect(Charge)
        .unknown()
        .expect(Charge)
        .done(());
    let _: Order = order.expect(Ship { reservation: 7 }).done(9).completed();
}

#[test]
fn a_cancel_before_the_pivot_undoes_what_is_in_doubt() {
    let start = || SagaTest::start(place_order(), order()).local("look-up", true);
    let _: Order = start()
        .cancel("the customer called")
        .expect_undo::<Reserve>()
        .compensated();
    let _: Order = start().deadline().expect_undo::<Reserve>().compensated();
    // From the pivot's request on it waits.
    let _: Order = reserved()
        .cancel("too late")
        .expect(Charge)
        .done(())
        .expect(Ship { reservation: 7 })
        .done(9)
        .completed();
}

#[test]
fn what_cannot_succeed_parks_and_goes_on_when_an_operator_says_so() {
    let reason = reserved().expect(Charge).failed("no such account").parked();
    assert!(reason.contains("no such account"), "{reason}");
    let resumed = reserved()
        .expect(Charge)
        .failed("no such account")
        .resume("the account is there");
    let _: Order = resumed
        .expect(Charge)
        .done(())
        .expect(Ship { reservation: 7 })
        .done(9)
        .completed();
}

fn message(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("the test is to fail");
    panic.downcast_ref::<String>().cloned().expect("a panic with a message")
}

#[test]
fn a_wrong_expectation_says_what_has_happened() {
    let text = message(|| drop(reserved().expect(Charge).done(()).expect(Ship { reservation: 8 })));
    assert!(
        text.contains("the saga asks Ship { reservation: 7 }, not Ship { reservation: 8 }"),
        "{text}"
    );
    assert!(text.contains("`charge` is done"), "the history is told: {text}");
    let text = message(|| {
        reserved().completed();
    });
    assert!(
        text.contains("the saga is not completed") && text.contains("waits for an answer of payment"),
        "{text}"
    );
}

#[derive(Debug, Clone, Default)]
struct Shop {
    held: u32,
    paid: u32,
    parcels: u64,
}

fn explore(release: fn(&mut Shop, Undo<Reserve>)) -> Explore<Order, Shop> {
    Explore::new(place_order(), order(), Shop::default())
        .local("look-up", |_: &mut Shop, order: Order| {
            Answer::<_, Never>::Done(order.quantity < 100)
        })
        .on(|shop: &mut Shop, ask: Reserve| {
            if shop.held + ask.quantity > 3 {
                return Rejected(OutOfStock { left: 3 - shop.held });
            }
            shop.held += ask.quantity;
            Done(7)
        })
        .undo(release)
        .on(|shop: &mut Shop, _: Charge| {
            shop.paid += 1;
            Done(())
        })
        .on(|shop: &mut Shop, ask: Ship| {
            shop.parcels += 1;
            Done(ask.reservation + shop.parcels)
        })
        .check("what is held is paid", |shop, outcome| match outcome {
            Outcome::Parked { .. } => true,
            _ => (shop.held == 2) == (shop.paid == 1),
        })
}

#[test]
fn money_and_stock_are_conserved() {
    let explore = explore(|shop, undo| shop.held -= undo.command.quantity);
    explore.fail_at_every_step();
    explore.repeat_every_step();
    explore.schedules(500);
}

/// A bug of the participant's: it does not release what was held.
#[test]
fn a_broken_rule_names_a_seed_that_breaks_it_again() {
    let explore = explore(|_, _| {});
    let text = message(|| explore.schedules(500));
    assert!(text.contains("`what is held is paid` does not hold"), "{text}");
    let seed = text
        .strip_prefix("seed ")
        .and_then(|text| text.split(' ').next())
        .expect("it starts with its seed");
    let again = message(|| explore.schedule(seed.parse().expect("a number")));
    assert_eq!(again, text);
    assert!(message(|| explore.fail_at_every_step()).starts_with("Reject at step `charge`"));
}

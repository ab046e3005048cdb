//! The saga that fulfils an order: its input, its definition, its rules.

use jiff::Timestamp;
use sagamill::{
    eventstore::{EventStore, NewEvent},
    prelude::{Answer, Definition, HandlerError, Saga, State, Tx, call, local},
};
use serde::{Deserialize, Serialize};
use shop_contracts::{Authorize, BookShipment, Capture, Delivery, Line, Money, OrderConfirmed, OrderId, ReserveStock};
use shop_frame::{Db, values};
use uuid::Uuid;

/// The definition's name.
pub const PLACE_ORDER: &str = "place-order";

/// What the saga knows: the order as it was placed, and what the others have answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fulfilment {
    /// Which order; also the saga's key.
    pub order: OrderId,
    /// Who pays.
    pub customer: String,
    /// What goes out; an article at most once.
    pub lines: Vec<Line>,
    /// How it travels.
    pub delivery: Delivery,
    /// What it costs.
    pub total: Money,
    /// Inventory's answer.
    pub reservation: Option<Uuid>,
    /// The payment provider's answer.
    pub authorization: Option<String>,
    /// Shipping's answer.
    pub shipment: Option<Uuid>,
}

/// Reserve, authorize and book can each be refused and are undone in reverse. Taking the money decides: from there on the
/// order goes through.
pub fn place_order<D: Db>() -> Definition<Fulfilment> {
    Saga::define(PLACE_ORDER)
        .version(1)
        .step(
            "reserve",
            call(reserve)
                .on_reply(|order, reply| order.reservation = Some(reply.reservation))
                .undo(),
        )
        .step(
            "authorize",
            call(authorize)
                .on_reply(|order, reply| order.authorization = Some(reply.authorization))
                .undo(),
        )
        .step(
            "book",
            call(book)
                .on_reply(|order, reply| order.shipment = Some(reply.shipment))
                .undo(),
        )
        .pivot("capture", call(capture))
        .step("confirm", local(confirm::<D>))
        .build()
}

fn reserve(order: &Fulfilment) -> ReserveStock {
    ReserveStock {
        order: order.order.clone(),
        lines: order.lines.clone(),
    }
}

fn authorize(order: &Fulfilment) -> Authorize {
    Authorize {
        order: order.order.clone(),
        customer: order.customer.clone(),
        amount: order.total,
    }
}

fn book(order: &Fulfilment) -> BookShipment {
    BookShipment {
        order: order.order.clone(),
        delivery: order.delivery,
    }
}

fn capture(order: &Fulfilment) -> Capture {
    // The step before it has been answered, so the authorization is there; the provider refuses an empty one.
    let authorization = order.authorization.clone().unwrap_or_default();
    Capture {
        order: order.order.clone(),
        authorization,
        amount: order.total,
    }
}

/// Marks the order confirmed and says so to whoever listens, in one transaction with the step's barrier.
async fn confirm<D: Db>(
    State(store): State<EventStore<D>>,
    mut tx: Tx<D>,
    order: Fulfilment,
) -> Result<Answer<()>, HandlerError> {
    let number = order
        .order
        .number()
        .ok_or_else(|| HandlerError::permanent(format!("no order {}", order.order)))?;
    let confirm = "update orders set confirmed_at = $1 where number = $2 and confirmed_at is null";
    let values = values![Timestamp::now().to_string(), number];
    D::sql(&mut tx).execute(confirm, &values).await?;
    let confirmed = NewEvent::of(&OrderConfirmed {
        order: order.order.clone(),
    })?;
    store.stage_in(&mut tx, order.order.as_str(), [confirmed]).await?;
    Ok(Answer::Done(()))
}

#[cfg(test)]
mod tests {
    use sagamill::{
        prelude::{
            Answer::{Done, Rejected},
            Outcome, Undo,
        },
        saga::Never,
        test::{Explore, SagaTest},
    };
    use shop_contracts::{Authorized, Booked, CaptureRejected, Captured, CarrierDown, Declined, OutOfStock, Reserved};

    use sqlx::Sqlite;

    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    fn order() -> Fulfilment {
        Fulfilment {
            order: OrderId::numbered(1),
            customer: "ada".to_owned(),
            lines: vec![Line {
                sku: "mug".into(),
                quantity: 2.try_into().unwrap(),
            }],
            delivery: Delivery::Parcel,
            total: Money::minor(2_400),
            reservation: None,
            authorization: None,
            shipment: None,
        }
    }

    fn authorized() -> Authorized {
        Authorized {
            authorization: "auth-1".to_owned(),
        }
    }

    fn capture_command() -> Capture {
        Capture {
            order: OrderId::numbered(1),
            authorization: "auth-1".to_owned(),
            amount: Money::minor(2_400),
        }
    }

    #[test]
    fn order_goes_through_all_steps() {
        let order = order();
        let end = SagaTest::start(place_order::<Sqlite>(), order.clone())
            .expect(reserve(&order))
            .done(Reserved { reservation: ID })
            .expect(authorize(&order))
            .done(authorized())
            .expect(book(&order))
            .done(Booked { shipment: ID })
            .expect(capture_command())
            .done(Captured { amount: order.total })
            .local("confirm", ())
            .completed();
        assert_eq!((end.reservation, end.shipment), (Some(ID), Some(ID)));
        assert_eq!(end.authorization.as_deref(), Some("auth-1"));
    }

    #[test]
    fn order_without_stock_ends_at_once() {
        let order = order();
        SagaTest::start(place_order::<Sqlite>(), order.clone())
            .expect(reserve(&order))
            .rejected(OutOfStock {
                sku: "mug".into(),
                available: 1,
            })
            .compensated();
    }

    #[test]
    fn declined_order_gives_its_stock_back() {
        let order = order();
        SagaTest::start(place_order::<Sqlite>(), order.clone())
            .expect(reserve(&order))
            .done(Reserved { reservation: ID })
            .expect(authorize(&order))
            .rejected(Declined {
                reason: "no".to_owned(),
            })
            .expect_undo::<ReserveStock>()
            .compensated();
    }

    #[test]
    fn order_without_carrier_gives_money_and_stock_back() {
        let order = order();
        SagaTest::start(place_order::<Sqlite>(), order.clone())
            .expect(reserve(&order))
            .done(Reserved { reservation: ID })
            .expect(authorize(&order))
            .done(authorized())
            .expect(book(&order))
            .rejected(CarrierDown {
                carrier: "post".to_owned(),
            })
            .expect_undo::<Authorize>()
            .expect_undo::<ReserveStock>()
            .compensated();
    }

    #[test]
    fn refused_capture_leads_back_through_all_steps() {
        let order = order();
        SagaTest::start(place_order::<Sqlite>(), order.clone())
            .expect(reserve(&order))
            .done(Reserved { reservation: ID })
            .expect(authorize(&order))
            .done(authorized())
            .expect(book(&order))
            .done(Booked { shipment: ID })
            .expect(capture_command())
            .rejected(CaptureRejected {
                reason: "expired".to_owned(),
            })
            .expect_undo::<BookShipment>()
            .expect_undo::<Authorize>()
            .expect_undo::<ReserveStock>()
            .compensated();
    }

    /// What the other services hold.
    #[derive(Debug, Clone, Default, PartialEq)]
    struct World {
        reserved: u32,
        authorized: Money,
        captured: Money,
        shipments: u32,
        confirmed: u32,
    }

    fn explore() -> Explore<Fulfilment, World> {
        Explore::new(place_order::<Sqlite>(), order(), World::default())
            .on(|world: &mut World, command: ReserveStock| {
                world.reserved += command.lines[0].quantity.get();
                Done(Reserved { reservation: ID })
            })
            .undo(|world, undo: Undo<ReserveStock>| world.reserved -= undo.command.lines[0].quantity.get())
            .on(|world, command: Authorize| {
                world.authorized = world.authorized.plus(command.amount).unwrap();
                Done(authorized())
            })
            .undo(|world, _: Undo<Authorize>| world.authorized = Money::ZERO)
            .on(|world, _: BookShipment| {
                world.shipments += 1;
                Done(Booked { shipment: ID })
            })
            .undo(|world, _: Undo<BookShipment>| world.shipments -= 1)
            .on(|world, command: Capture| {
                if world.authorized != command.amount {
                    return Rejected(CaptureRejected {
                        reason: "not held".to_owned(),
                    });
                }
                world.authorized = Money::ZERO;
                world.captured = world.captured.plus(command.amount).unwrap();
                Done(Captured { amount: command.amount })
            })
            .local("confirm", |world, _| -> Answer<(), Never> {
                world.confirmed += 1;
                Done(())
            })
            .check("money and stock are conserved", |world, outcome| match outcome {
                Outcome::Completed(order) => {
                    let sold = World {
                        reserved: 2,
                        captured: order.total,
                        shipments: 1,
                        confirmed: 1,
                        ..World::default()
                    };
                    *world == sold
                }
                Outcome::Compensated { .. } => *world == World::default(),
                _ => true,
            })
    }

    #[test]
    fn money_and_stock_are_conserved_wherever_a_step_fails() {
        explore().fail_at_every_step();
    }

    #[test]
    fn money_and_stock_are_conserved_when_everything_comes_twice() {
        explore().repeat_every_step();
    }

    #[test]
    fn money_and_stock_are_conserved_over_many_schedules() {
        explore().schedules(300);
    }
}

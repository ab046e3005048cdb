//! The verdict, from what each service says of itself.

use std::collections::BTreeMap;

use shop_contracts::{
    AuthorizationState, BookedShipment, HeldAuthorization, Line, Money, OrderId, PaymentBook, Reservation,
    ShipmentState, ShippingBook, StockBook,
};

use super::{
    Discrepancy, Ledger, MoneyLedger, OrderCounts, SHOWN_MAX, StockLedger,
    book::{Ended, OrderBook},
};

/// All that was done for one order.
#[derive(Debug, Default)]
struct Effects<'a> {
    reservations: Vec<&'a Reservation>,
    payments: Vec<&'a HeldAuthorization>,
    authorizations: Vec<&'a HeldAuthorization>,
    shipments: Vec<&'a BookedShipment>,
}

pub(super) fn judge(orders: &OrderBook, stock: &StockBook, payments: &PaymentBook, shipping: &ShippingBook) -> Ledger {
    let effects = effects(stock, payments, shipping);
    let mut found = Vec::new();
    inventory_agrees(stock, &mut found);
    provider_agrees(payments, &mut found);
    let nothing = Effects::default();
    for (order, ended) in &orders.ended {
        judge_order(order, ended, effects.get(order).unwrap_or(&nothing), &mut found);
    }
    let (mut money_in_flight, mut stock_in_flight) = (Money::ZERO, 0);
    for (order, effects) in effects.iter().filter(|(order, _)| !orders.ended.contains_key(*order)) {
        if !may_be_in_flight(orders, order) {
            found.push(discrepancy(order, "has effects and was never placed".to_owned()));
        }
        money_in_flight = add(
            money_in_flight,
            sum(effects.authorizations.iter().filter(|a| is_live(a)).copied()),
        );
        stock_in_flight += pieces(&held_lines(effects));
    }
    let completed = || orders.ended.values().filter(|ended| ended.completed);
    Ledger {
        balanced: found.is_empty(),
        in_flight: orders.pending.len() as u64,
        orders: OrderCounts {
            completed: completed().count() as u64,
            compensated: (orders.ended.len() - completed().count()) as u64,
            parked: orders.parked.len() as u64,
        },
        money: MoneyLedger {
            customers: payments.provider.customers,
            held: payments.provider.held,
            merchant: payments.provider.merchant,
            completed: completed().map(|ended| ended.total).fold(Money::ZERO, add),
            in_flight: money_in_flight,
        },
        stock: StockLedger {
            initial: stock.stock.iter().map(|level| level.initial).sum(),
            available: stock.stock.iter().map(|level| level.available).sum(),
            held: stock.stock.iter().map(|level| level.held).sum(),
            completed: completed().map(|ended| pieces(&ended.lines)).sum(),
            in_flight: stock_in_flight,
        },
        discrepancy_count: found.len(),
        discrepancies: found.into_iter().take(SHOWN_MAX).collect(),
    }
}

fn effects<'a>(
    stock: &'a StockBook,
    payments: &'a PaymentBook,
    shipping: &'a ShippingBook,
) -> BTreeMap<&'a OrderId, Effects<'a>> {
    let mut effects: BTreeMap<&OrderId, Effects<'_>> = BTreeMap::new();
    for reservation in &stock.reservations {
        effects
            .entry(&reservation.order)
            .or_default()
            .reservations
            .push(reservation);
    }
    for payment in &payments.authorizations {
        effects.entry(&payment.order).or_default().payments.push(payment);
    }
    for authorization in &payments.provider.authorizations {
        effects
            .entry(&authorization.order)
            .or_default()
            .authorizations
            .push(authorization);
    }
    for shipment in &shipping.shipments {
        effects.entry(&shipment.order).or_default().shipments.push(shipment);
    }
    effects
}

/// Those for whom something was done and who are not among the orders: placed after those were read, or never.
pub(super) fn strangers(
    orders: &OrderBook,
    stock: &StockBook,
    payments: &PaymentBook,
    shipping: &ShippingBook,
) -> Vec<OrderId> {
    let effects = effects(stock, payments, shipping);
    let strange = |order: &&OrderId| !orders.ended.contains_key(*order) && !may_be_in_flight(orders, order);
    effects.into_keys().filter(strange).cloned().collect()
}

/// The order's saga ran when the orders were read, or was placed after that.
fn may_be_in_flight(orders: &OrderBook, order: &OrderId) -> bool {
    orders.pending.contains(order) || orders.parked.contains(order) || orders.later.contains(order)
}

fn judge_order(order: &OrderId, ended: &Ended, effects: &Effects<'_>, found: &mut Vec<Discrepancy>) {
    let outcome = if ended.completed { "completed" } else { "compensated" };
    let mut say = |what: String| found.push(discrepancy(order, format!("is {outcome}, and {what}")));

    let (held, due) = (
        held_lines(effects),
        if ended.completed { ended.lines.as_slice() } else { &[] },
    );
    if held != due {
        say(format!(
            "{} pieces are set aside where {} must be",
            pieces(&held),
            pieces(due)
        ));
    }
    let (live, captured): (Vec<_>, Vec<_>) = effects
        .authorizations
        .iter()
        .filter(|authorization| is_live(authorization))
        .partition(|authorization| authorization.state == AuthorizationState::Authorized);
    if !live.is_empty() {
        say(format!("{} of its money is still held", sum(live.into_iter().copied())));
    }
    let due = if ended.completed { ended.total } else { Money::ZERO };
    let taken = sum(captured.iter().copied().copied());
    if taken != due || captured.len() > 1 {
        say(format!(
            "{taken} of its money was captured ({} times) where {due} must be",
            captured.len()
        ));
    }
    if !same(&effects.payments, &effects.authorizations) {
        say("payment and its provider do not agree".to_owned());
    }
    let shipments = effects
        .shipments
        .iter()
        .filter(|shipment| shipment.state != ShipmentState::Cancelled)
        .count();
    if shipments != usize::from(ended.completed) {
        say(format!(
            "{shipments} shipments are booked where {} must be",
            usize::from(ended.completed)
        ));
    }
}

fn inventory_agrees(book: &StockBook, found: &mut Vec<Discrepancy>) {
    for level in &book.stock {
        if level.available < 0 || level.available + level.held != level.initial {
            let (sku, available, held, initial) = (&level.sku, level.available, level.held, level.initial);
            let what = format!("`{sku}`: {available} available and {held} held of {initial}");
            found.push(Discrepancy { order: None, what });
        }
    }
}

fn provider_agrees(payments: &PaymentBook, found: &mut Vec<Discrepancy>) {
    let book = &payments.provider;
    let in_state = |state| {
        sum(book
            .authorizations
            .iter()
            .filter(move |authorization| authorization.state == state))
    };
    let sums = add(add(book.customers, book.held), book.merchant);
    if sums != Money::ZERO {
        found.push(Discrepancy {
            order: None,
            what: format!("the provider's accounts add up to {sums}"),
        });
    }
    for (account, balance, due) in [
        ("held", book.held, in_state(AuthorizationState::Authorized)),
        ("merchant", book.merchant, in_state(AuthorizationState::Captured)),
    ] {
        if balance != due {
            let what = format!("the provider's account `{account}` has {balance}, its authorizations say {due}");
            found.push(Discrepancy { order: None, what });
        }
    }
}

fn discrepancy(order: &OrderId, what: String) -> Discrepancy {
    Discrepancy {
        order: Some(order.clone()),
        what,
    }
}

fn is_live(authorization: &HeldAuthorization) -> bool {
    authorization.state != AuthorizationState::Voided
}

/// What is set aside, over all reservations: two for one order show as too much.
fn held_lines(effects: &Effects<'_>) -> Vec<Line> {
    let held = effects.reservations.iter().filter(|reservation| reservation.held);
    held.flat_map(|reservation| reservation.lines.iter().cloned()).collect()
}

fn pieces(lines: &[Line]) -> i64 {
    lines.iter().map(|line| i64::from(line.quantity.get())).sum()
}

fn same(ours: &[&HeldAuthorization], theirs: &[&HeldAuthorization]) -> bool {
    ours.len() == theirs.len() && ours.iter().all(|payment| theirs.contains(payment))
}

fn sum<'a>(authorizations: impl IntoIterator<Item = &'a HeldAuthorization>) -> Money {
    authorizations
        .into_iter()
        .map(|authorization| authorization.amount)
        .fold(Money::ZERO, add)
}

/// Saturates: a sum that does not fit is no reason to give no answer, and agrees with nothing.
fn add(a: Money, b: Money) -> Money {
    Money::minor(a.as_minor().saturating_add(b.as_minor()))
}

#[cfg(test)]
mod tests {
    use shop_contracts::{ProviderBook, StockLevel};

    use super::*;

    const TEN: Money = Money::minor(1_000);

    fn id(number: i64) -> OrderId {
        OrderId::numbered(number)
    }
    fn two_mugs() -> Vec<Line> {
        vec![Line {
            sku: "mug".into(),
            quantity: 2.try_into().unwrap(),
        }]
    }

    /// Order 1 is completed, 2 compensated after all three steps, 3 runs; 4 was placed after the orders were read.
    struct World {
        orders: OrderBook,
        stock: StockBook,
        payments: PaymentBook,
        shipping: ShippingBook,
    }

    impl World {
        fn sound() -> Self {
            use AuthorizationState::{Authorized, Captured, Voided};
            let ended = |completed| Ended {
                completed,
                lines: two_mugs(),
                total: TEN,
            };
            let reservation = |number, held| Reservation {
                order: id(number),
                lines: two_mugs(),
                held,
            };
            let authorization = |number, state| HeldAuthorization {
                authorization: format!("auth-{number}"),
                order: id(number),
                amount: TEN,
                state,
            };
            let authorizations = vec![
                authorization(1, Captured),
                authorization(2, Voided),
                authorization(3, Authorized),
            ];
            let shipment = |number, state| BookedShipment {
                order: id(number),
                state,
            };
            Self {
                orders: OrderBook {
                    later: [id(4)].into(),
                    ended: [(id(1), ended(true)), (id(2), ended(false))].into(),
                    pending: [id(3)].into(),
                    parked: [].into(),
                },
                stock: StockBook {
                    stock: vec![StockLevel {
                        sku: "mug".into(),
                        initial: 10,
                        available: 4,
                        held: 6,
                    }],
                    reservations: vec![
                        reservation(1, true),
                        reservation(2, false),
                        reservation(3, true),
                        reservation(4, true),
                    ],
                },
                payments: PaymentBook {
                    // What payment notes of order 3 may come after what the provider did.
                    authorizations: authorizations[..2].to_vec(),
                    provider: ProviderBook {
                        authorizations,
                        customers: Money::minor(-2_000),
                        held: TEN,
                        merchant: TEN,
                    },
                },
                shipping: ShippingBook {
                    shipments: vec![
                        shipment(1, ShipmentState::Dispatched),
                        shipment(2, ShipmentState::Cancelled),
                    ],
                },
            }
        }
        fn judge(&self) -> Ledger {
            judge(&self.orders, &self.stock, &self.payments, &self.shipping)
        }
    }

    #[test]
    fn what_running_sagas_hold_is_shown_and_not_judged() {
        let ledger = World::sound().judge();
        assert_eq!(ledger.discrepancies, []);
        assert!(ledger.balanced);
        assert_eq!(
            (ledger.in_flight, ledger.stock.in_flight, ledger.money.in_flight),
            (1, 4, TEN)
        );
        assert_eq!((ledger.stock.completed, ledger.money.completed), (2, TEN));
    }

    #[test]
    fn order_that_came_after_the_look_is_a_stranger_first() {
        let mut world = World::sound();
        world.orders.later.clear();
        let found = strangers(&world.orders, &world.stock, &world.payments, &world.shipping);
        assert_eq!(found, [id(4)]);
    }

    type Fault = fn(&mut World);

    #[test]
    fn each_fault_is_found() {
        let faults: [(&str, Fault); 12] = [
            ("stock kept after the undo", |world| {
                world.stock.reservations[1].held = true
            }),
            ("stock lost after completion", |world| {
                world.stock.reservations[0].held = false
            }),
            ("reserved twice", |world| {
                world.stock.reservations.push(world.stock.reservations[0].clone())
            }),
            ("stock vanished", |world| world.stock.stock[0].available -= 1),
            ("not captured", |world| {
                world.payments.provider.authorizations[0].state = AuthorizationState::Authorized
            }),
            ("not voided", |world| {
                world.payments.provider.authorizations[1].state = AuthorizationState::Authorized
            }),
            ("captured after the undo", |world| {
                world.payments.provider.authorizations[1].state = AuthorizationState::Captured;
            }),
            ("wrong amount", |world| {
                world.payments.provider.authorizations[0].amount = Money::minor(999)
            }),
            ("money made", |world| {
                world.payments.provider.merchant = Money::minor(1_001)
            }),
            ("payment never noted", |world| {
                drop(world.payments.authorizations.remove(0))
            }),
            ("shipment kept after the undo", |world| {
                world.shipping.shipments[1].state = ShipmentState::Booked
            }),
            ("effects of no order", |world| {
                world.orders.later.clear();
            }),
        ];
        for (fault, make) in faults {
            let mut world = World::sound();
            make(&mut world);
            assert!(!world.judge().balanced, "{fault}");
        }
    }
}

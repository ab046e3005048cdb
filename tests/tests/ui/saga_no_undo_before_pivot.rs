mod contract;
use contract::{Charge, Order, ReserveStock, Ship};
use sagamill_saga::prelude::*;

fn reserve(order: &Order) -> ReserveStock {
    ReserveStock { sku: order.sku.clone(), quantity: order.quantity }
}
fn charge(order: &Order) -> Charge {
    Charge { cents: order.cents }
}
fn ship(order: &Order) -> Ship {
    Ship { reservation: order.reservation }
}

fn main() {
    let _: Definition<Order> = Saga::define("place-order")
        .step("reserve", call(reserve))
        .pivot("charge", call(charge))
        .step("ship", call(ship))
        .build();
}

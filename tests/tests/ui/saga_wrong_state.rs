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

async fn hold(_: String) -> Answer<u64> {
    Done(7)
}

fn main() {
    let _: Definition<Order> = Saga::define("place-order")
        .step("reserve", call(reserve).undo())
        .step("hold", local(hold).no_undo())
        .pivot("charge", call(charge))
        .step("ship", call(ship))
        .build();
}

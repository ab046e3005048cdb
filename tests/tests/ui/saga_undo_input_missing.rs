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

async fn hold(_: Order) -> Answer<u64> {
    Done(7)
}
async fn release(_hold: String) {}

fn main() {
    let _: Definition<Order> = Saga::define("place-order")
        .step("reserve", local(hold).undo(release))
        .pivot("charge", call(charge))
        .step("ship", call(ship))
        .build();
    let _ = (reserve, charge);
}

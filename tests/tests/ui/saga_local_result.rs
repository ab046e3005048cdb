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

async fn hold(_: Order) -> Result<u64, std::io::Error> {
    Ok(7)
}

fn main() {
    let _ = local(hold);
    let _ = (reserve, charge, ship);
}

mod contract;
use contract::{Charge, Order};
use sagamill_saga::prelude::*;

fn main() {
    let _: Definition<Order> = Saga::define("place-order")
        .pivot("charge", call(|order: &Order| Charge { cents: order.cents }).undo_in_doubt())
        .build();
}

mod contract;
use contract::Order;
use sagamill_saga::prelude::*;

struct Reserve;

fn main() {
    let _ = call(|_: &Order| Reserve);
}

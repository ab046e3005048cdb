mod contract;
use contract::{OutOfStock, ReserveStock};
use sagamill_saga::{eventstore::EventStore, prelude::*};


async fn reserve(_: ReserveStock) -> Result<Answer<u64, OutOfStock>, sqlx::Error> {
    Ok(Done(7))
}

fn main() {
    let _ = Participant::new(&EventStore::memory()).on(reserve).with_state(());
}

mod contract;
use contract::{OutOfStock, ReserveStock, Reserved};
use sagamill_saga::{eventstore::EventStore, prelude::*};
use sqlx::Sqlite;

async fn reserve(_: Tx<Sqlite>, _: ReserveStock) -> Answer<Reserved, OutOfStock> {
    Done(Reserved { id: 7 })
}

fn main() {
    let _ = Participant::new(&EventStore::memory()).on(reserve).with_state(());
}

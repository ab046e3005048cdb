mod contract;
use contract::ReserveStock;
use sagamill_saga::{eventstore::EventStore, prelude::*};


async fn release(_: ReserveStock) {}

fn main() {
    let _ = Participant::new(&EventStore::memory()).undo(release).with_state(());
}

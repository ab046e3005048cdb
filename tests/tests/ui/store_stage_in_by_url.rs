mod contract;
use sagamill_bus::Event;
use sagamill_eventstore::{EventStore, NewEvent};
use sqlx::SqlitePool;

async fn both<E: Event>(store: EventStore, pool: SqlitePool, event: E) {
    let mut tx = pool.begin().await.unwrap();
    let _ = store.stage_in(&mut tx, "order-42", [NewEvent::of(&event).unwrap()]).await;
}

fn main() {
    let _ = both::<contract::Approved>;
}

mod contract;
use sagamill_bus::Event;
use sagamill_eventstore::{EventStore, NewEvent};
use sqlx::{Sqlite, SqlitePool};

async fn both<E: Event>(store: EventStore<Sqlite>, pool: SqlitePool, event: E) {
    let mut connection = pool.acquire().await.unwrap();
    let _ = store.stage_in(&mut connection, "order-42", [NewEvent::of(&event).unwrap()]).await;
}

fn main() {
    let _ = both::<contract::Approved>;
}

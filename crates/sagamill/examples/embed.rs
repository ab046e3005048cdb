//! A saga inside a service: SQLite, no server, no broker.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]
use sagamill::prelude::*;
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Cents(u32);
async fn reserve(_: Cents) -> Result<Answer<u64>, std::io::Error> {
    Ok(Done(7)) // an error would be tried again
}
async fn release(_reservation: u64) {}
async fn charge(price: Cents) -> Answer<(), String> {
    Rejected(format!("card declined: {price:?}")) // no error: what is done will be undone
}
async fn ship(_: Cents) -> Answer<()> {
    Done(())
}
fn place_order() -> Definition<Cents> {
    Saga::define("place-order")
        .step("reserve", local(reserve).undo(release))
        .pivot("charge", local(charge))
        .step("ship", local(ship))
        .build()
}
#[tokio::main]
async fn main() -> Result<(), sagamill::Error> {
    let coordinator = Coordinator::connect("sqlite:shop.db").await?;
    let orders = coordinator.register(place_order())?;
    tokio::spawn(coordinator.run(std::future::pending()));
    let order = orders.start("order-42", Cents(450)).await?; // once per key
    order.outcome().await.map(|outcome| println!("{outcome:?}"))
}

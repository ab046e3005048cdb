mod contract;
use sagamill_bus::Router;
use sagamill_saga::Tx;
use sqlx::Sqlite;

async fn approved(_: Tx<Sqlite>, _: contract::Approved) {}

fn main() {
    let _: Router = Router::new().on(approved);
}

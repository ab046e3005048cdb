//! A log is put through the bus's conformance suite: in memory on virtual time, in a file and on a server in real time, each
//! connection with a store of its own.

mod folder;
mod on_server;
mod server;

use sagamill_eventstore::conformance::{bus::Harness, in_memory};

mod memory {
    use super::*;
    sagamill_bus::conformance!(
        #[tokio::test(start_paused = true)]
        Harness::over(in_memory())
    );
}

mod sqlite {
    use super::*;
    sagamill_bus::conformance!(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        Harness::over(folder::subject())
    );
}

mod postgres {
    use super::*;
    sagamill_bus::conformance!(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        Harness::over(on_server::subject())
    );
}

#[tokio::test]
async fn the_readme_says_what_is_declared() {
    let bus = sagamill_bus::conformance::Harness::connect(&Harness::over(in_memory())).await;
    let row = sagamill_bus::conformance::declared("`sqlite:`, `postgres:`", &bus);
    assert!(
        include_str!("../../../README.md").contains(&row),
        "README.md lacks {row}"
    );
}

#[tokio::test]
async fn the_readme_says_what_is_told() {
    let harness = Harness::over(in_memory());
    let row = sagamill_bus::conformance::inspected("`sqlite:`, `postgres:`", &harness).await;
    assert!(
        include_str!("../../../README.md").contains(&row),
        "README.md lacks {row}"
    );
}

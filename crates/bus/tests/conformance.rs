//! The in-memory transport is put through the conformance suite: on virtual time, and on two threads in real time.

use sagamill_bus::{
    Bus,
    conformance::Harness,
    memory::{Limits, Memory},
};

struct InMemory(Memory);

impl Harness for InMemory {
    async fn connect(&self) -> Bus {
        self.0.connect()
    }
}

mod on_virtual_time {
    use super::*;
    sagamill_bus::conformance!(
        #[tokio::test(start_paused = true)]
        InMemory(Memory::new())
    );
}

mod on_threads {
    use super::*;
    sagamill_bus::conformance!(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        InMemory(Memory::new())
    );
}

mod with_a_short_queue {
    use super::*;

    fn short() -> InMemory {
        InMemory(Memory::with(Limits {
            queue: 2,
            retained: 4_096,
            ..Limits::default()
        }))
    }

    // Those that publish in parallel with reading; the others would wait for room, as they should.
    #[tokio::test(start_paused = true)]
    async fn members_and_publishers_that_wait_for_each_other() {
        use sagamill_bus::conformance;
        conformance::all_members_together_get_every_message(&short()).await;
        conformance::closing_the_publisher_keeps_what_was_confirmed(&short()).await;
        conformance::publishing_and_closing_at_once_loses_nothing_confirmed(&short()).await;
        conformance::subscriptions_that_come_and_go_lose_nothing(&short()).await;
    }
}

#[tokio::test]
async fn the_readme_says_what_is_told() {
    let row = sagamill_bus::conformance::inspected("`memory:`", &InMemory(Memory::new())).await;
    assert!(
        include_str!("../../../README.md").contains(&row),
        "README.md lacks {row}"
    );
}

#[test]
fn the_readme_says_what_is_declared() {
    let row = sagamill_bus::conformance::declared("`memory:`", &Memory::new().connect());
    assert!(
        include_str!("../../../README.md").contains(&row),
        "README.md lacks {row}"
    );
}

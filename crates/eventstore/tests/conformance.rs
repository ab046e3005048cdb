//! Every log keeps the same rules.

mod folder;
mod on_server;
mod server;

mod memory {
    sagamill_eventstore::conformance!(sagamill_eventstore::conformance::in_memory());
}

mod sqlite {
    sagamill_eventstore::conformance!(crate::folder::subject());
}

mod postgres {
    sagamill_eventstore::conformance!(crate::on_server::subject());
}

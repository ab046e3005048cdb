//! A binary of one's own: the whole command line, and a coordinator for its own definitions.
//!
//! `cargo run -p sagamill-cli --example own -- serve --store sqlite:trips.db`

use std::process::ExitCode;

use sagamill::prelude::*;

async fn book_room(city: String) -> Answer<u32, String> {
    if city == "Atlantis" {
        return Rejected("no such city".to_owned());
    }
    Done(7)
}
async fn free_room(_room: u32) {}
async fn book_flight(_city: String) -> Answer<()> {
    Done(())
}

fn main() -> ExitCode {
    let book_trip: Definition<String> = Saga::define("book-trip")
        .step("room", local(book_room).undo(free_room))
        .pivot("flight", local(book_flight))
        .build();
    sagamill_cli::Cli::new().register(book_trip).run()
}

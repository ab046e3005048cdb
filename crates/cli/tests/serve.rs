//! `serve`, in a binary of one's own: sagas that others started go on in it, and it ends when it is told.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use sagamill::prelude::*;
use tokio::{process::Command, time::timeout};

const PATIENCE: Duration = Duration::from_secs(60);

async fn nowhere(_: String) -> Answer<u32, String> {
    panic!("the process that starts sagas runs none")
}
async fn undone(_: u32) {}
async fn done(_: String) -> Answer<()> {
    panic!("the process that starts sagas runs none")
}

/// The definition of `examples/own.rs`, as the process knows it that only starts sagas.
fn book_trip() -> Definition<String> {
    Saga::define("book-trip")
        .step("room", local(nowhere).undo(undone))
        .pivot("flight", local(done))
        .build()
}

#[tokio::test]
async fn own_binary_runs_the_sagas_that_others_start() {
    let directory = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", directory.path().join("trips.db").display());
    let trips = Coordinator::connect(&store)
        .await
        .unwrap()
        .register(book_trip())
        .unwrap();
    let good = trips.start("trip-1", "Paris".to_owned()).await.unwrap();
    let bad = trips.start("trip-2", "Atlantis".to_owned()).await.unwrap();

    let mut child = Command::new(example("own"))
        .args(["serve", "--listen", "127.0.0.1:0", "--store", &store])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect(
            "`cargo build -p sagamill-cli --examples` builds the example; without `--test`, cargo does so by itself",
        );
    let good = timeout(PATIENCE, good.outcome()).await.unwrap().unwrap();
    assert!(matches!(good, Outcome::Completed(city) if city == "Paris"));
    let bad = timeout(PATIENCE, bad.outcome()).await.unwrap().unwrap();
    assert!(matches!(bad, Outcome::Compensated { .. }), "{bad:?}");

    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let ended = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn binary_without_definitions_says_how_to_have_some() {
    let mut serve = Command::new(env!("CARGO_BIN_EXE_sagamill"));
    let ended = serve.args(["serve", "--store", "memory:"]).output().await.unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("Cli::new().register(definition)"), "{said}");
}

/// Cargo builds the examples of a package for its tests, beside their programs.
fn example(name: &str) -> std::path::PathBuf {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_sagamill"));
    program.with_file_name("examples").join(name)
}

//! Running the binary.

#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

/// Longer than anything here may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sagamill"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
        .env_remove("SAGAMILL_DATA")
        .env_remove("SAGAMILL_LOG")
        .env_remove("RUST_LOG");
    command
}

/// What a command prints; it must succeed.
pub(crate) async fn output(arguments: &[&str]) -> Vec<u8> {
    let ended = timeout(PATIENCE, command(arguments).stderr(Stdio::piped()).output())
        .await
        .unwrap()
        .unwrap();
    assert!(
        ended.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&ended.stderr)
    );
    ended.stdout
}

/// How a command ends.
pub(crate) async fn run(arguments: &[&str]) -> Option<i32> {
    let ended = timeout(PATIENCE, command(arguments).stderr(Stdio::piped()).output())
        .await
        .unwrap()
        .unwrap();
    assert!(
        ended.status.success() || !ended.stderr.is_empty(),
        "{arguments:?} fails without a word"
    );
    ended.status.code()
}

//! Containers, as the servers in them are looked after.

use std::process::Command;

use crate::{Result, process, supervisor::output};

/// The supervisor's `end` of a container. Docker refuses for a moment what it is about to do for another.
pub(crate) const END: &str = r#"
end() {
    for _ in 1 2 3 4 5; do
        docker inspect "$name" >/dev/null || return
        docker rm --force --volumes "$name" && return
        sleep 1
    done
}
"#;

/// What `docker` prints.
pub(crate) fn docker(arguments: &[&str]) -> Result<String> {
    output(Command::new("docker").args(arguments))
}

/// Whether a container runs.
pub(crate) fn is_running(name: &str) -> bool {
    docker(&["inspect", "--format={{.State.Running}}", name]).is_ok_and(|running| running == "true")
}

/// Waits until a container that was told to end has ended.
pub(crate) fn wait_down(name: &str) -> Result<()> {
    process::wait_until(|| Ok(!is_running(name)), "the end of a container")
}

/// Whether Docker refused a container for its port, by its words.
pub(crate) fn is_taken(words: &str) -> bool {
    words.contains("port is already allocated") || words.contains("address already in use")
}

/// What a container has said.
pub(crate) fn log(name: &str) -> String {
    let output = Command::new("docker").args(["logs", name]).output();
    output.map_or_else(
        |error| error.to_string(),
        |output| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            text(&output.stdout) + &text(&output.stderr)
        },
    )
}

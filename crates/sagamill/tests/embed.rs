//! The example `embed` is short, runs as it stands, and remembers what it did.

use std::{path::Path, process::Command};

const LINES_MAX: usize = 30;

#[test]
fn a_saga_is_embedded_in_thirty_lines() {
    let lines = include_str!("../examples/embed.rs").lines().count();
    assert!(
        lines <= LINES_MAX,
        "{lines} lines: the example shows how little it takes"
    );
}

#[test]
fn the_example_undoes_its_saga_once_per_key() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path());
    assert!(
        first.starts_with("Compensated") && first.contains("card declined"),
        "{first}"
    );
    // The same key in another life of the process: the first saga is found, none is started.
    assert_eq!(run(folder.path()), first);
}

/// What the example prints when it runs in a folder.
fn run(folder: &Path) -> String {
    let test = std::env::current_exe().expect("this test is a file");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in target/<profile>/deps");
    let example = profile
        .join("examples")
        .join(format!("embed{}", std::env::consts::EXE_SUFFIX));
    let output = Command::new(&example)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; build it with `cargo build -p sagamill --examples`",
                example.display()
            )
        });
    assert!(
        output.status.success(),
        "the example failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the example prints UTF-8")
}

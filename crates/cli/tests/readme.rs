//! The README's commands do what it shows. Figures, times and paths may differ; words may not.
#![cfg(all(unix, feature = "shop"))]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

const README: &str = include_str!("../../../README.md");

/// Lines of `dev` that are waited for before what is missing is said to be missing.
const LINES_MAX: usize = 150;
/// A port of its own, and less to wait for.
const HASTE: [&str; 4] = ["--listen", "127.0.0.1:0", "--rate", "8"];

/// A command of a `console` block, and what it is shown to print.
#[derive(Debug)]
struct Shown {
    command: String,
    output: Vec<String>,
}

#[test]
fn the_readme_opens_with_its_two_commands() {
    let commands: Vec<String> = shown().into_iter().take(2).map(|shown| shown.command).collect();
    assert_eq!(commands, ["cargo run -- dev", "cargo xtask test"]);
}

#[test]
fn the_commands_of_the_readme_print_what_it_shows() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, mut lines) = (0, 0);
    for Shown { command, output } in shown() {
        // The rest is the gate itself, which runs this test.
        let Some(arguments) = command.strip_prefix("cargo run -- ") else {
            continue;
        };
        let wanted: Vec<String> = output
            .iter()
            .filter(|line| *line != "^C")
            .map(|line| masked(line))
            .collect();
        let printed = if arguments.starts_with("dev") {
            dev(arguments, folder.path(), &wanted)
        } else {
            once(arguments, folder.path())
        };
        for line in &wanted {
            assert!(
                printed.contains(line),
                "README: `{command}` does not print\n{line}\nbut\n{}",
                printed.join("\n")
            );
        }
        run += 1;
        lines += wanted.len();
    }
    assert!(
        run >= 5 && lines >= 15,
        "{run} commands with {lines} lines: the README is read in the wrong way"
    );
}

#[test]
fn the_readme_embeds_the_example() {
    let example = include_str!("../../sagamill/examples/embed.rs");
    let code = example.find("use ").map_or(example, |begin| &example[begin..]);
    assert!(
        README.contains(code),
        "the README's saga is not crates/sagamill/examples/embed.rs: copy it anew"
    );
}

/// Runs the shop until it has printed what is wanted, and stops it as Ctrl-C does.
fn dev(arguments: &str, folder: &Path, wanted: &[String]) -> Vec<String> {
    let mut child = sagamill(arguments, folder)
        .args(HASTE)
        .spawn()
        .expect("sagamill starts");
    let output = child.stdout.take().expect("its output is piped");
    let (mut printed, mut stopped) = (Vec::new(), false);
    for line in BufReader::new(output).lines() {
        printed.push(masked(&line.expect("it prints UTF-8")));
        let last = wanted.iter().filter(|line| !line.starts_with("the data is in"));
        if !stopped && (printed.len() > LINES_MAX || last.clone().all(|line| printed.contains(line))) {
            interrupt(&child);
            stopped = true;
        }
    }
    let status = child.wait().expect("it can be waited for");
    assert!(status.success(), "{arguments}: {status} after Ctrl-C");
    printed
}

/// Runs a command to its end.
fn once(arguments: &str, folder: &Path) -> Vec<String> {
    let output = sagamill(arguments, folder).output().expect("sagamill starts");
    let text = String::from_utf8(output.stdout).expect("it prints UTF-8");
    assert!(
        output.status.success(),
        "{arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!text.is_empty(), "{arguments} prints nothing");
    text.lines().map(masked).collect()
}

/// The command line with the README's arguments, its data in a folder of this test.
fn sagamill(arguments: &str, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sagamill"));
    command
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .stdout(Stdio::piped());
    command
        .env_remove("SAGAMILL_DATA")
        .env("NO_COLOR", "1")
        .env("TMPDIR", folder);
    command
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
}

/// All commands of the `console` blocks, in their order.
fn shown() -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    let mut inside = false;
    for line in README.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            let command = command
                .split_once('#')
                .map_or(command, |(command, _comment)| command)
                .trim()
                .to_owned();
            all.push(Shown {
                command,
                output: Vec::new(),
            });
        } else if inside && let Some(last) = all.last_mut() {
            last.output.push(line.to_owned());
        }
    }
    all
}

/// A line without what differs from run to run: numbers, paths, the width of columns.
fn masked(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        words.push(if word.starts_with('/') && word.contains("sagamill") {
            "PATH".to_owned()
        } else {
            digits(word)
        });
    }
    words.join(" ")
}

fn digits(word: &str) -> String {
    let mut masked = String::new();
    for c in word.chars() {
        if !c.is_ascii_digit() {
            masked.push(c);
        } else if !masked.ends_with('0') {
            masked.push('0');
        }
    }
    masked
}

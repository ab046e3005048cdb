//! One step of the gate: cargo calls, their time, and the tests they ran.

use std::{
    io::{BufRead, BufReader, Write, stdout},
    process::Stdio,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{count::Count, processes};

/// A step that says nothing for so long hangs. Builds and tests say something far more often.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// Some calls of cargo under one name.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// The arguments of each call, in their order.
    pub(crate) calls: Vec<Vec<String>>,
    /// Environment variables, unless the caller has set them.
    pub(crate) env: &'static [(&'static str, &'static str)],
}

/// How a step went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) ok: bool,
    pub(crate) took: Duration,
    pub(crate) count: Count,
    /// The settings it ran with.
    pub(crate) settings: Vec<(&'static str, String)>,
}

impl Step {
    /// One call, its arguments parted by blanks.
    pub(crate) fn new(name: &'static str, call: &str) -> Self {
        Self {
            name,
            calls: vec![words(call)],
            env: &[],
        }
    }
    /// Several calls.
    pub(crate) fn calls(name: &'static str, calls: Vec<Vec<String>>) -> Self {
        Self { name, calls, env: &[] }
    }
    /// With environment variables, unless the caller has set them.
    pub(crate) fn env(self, env: &'static [(&'static str, &'static str)]) -> Self {
        Self { env, ..self }
    }

    /// Runs the calls until one fails, with these variables besides its own.
    pub(crate) fn run(&self, more: &[(&'static str, String)]) -> anyhow::Result<Outcome> {
        println!("==> {}", self.name);
        let begun = Instant::now();
        let settings: Vec<_> = self
            .env
            .iter()
            .map(|&(name, value)| (name, setting(name, value)))
            .collect();
        let env = [&settings, more].concat();
        let mut count = Count::default();
        let mut ok = true;
        for call in &self.calls {
            let called = Instant::now();
            ok = cargo(call, &env, &mut count)?;
            if !ok {
                println!("failed: cargo {}", call.join(" "));
                break;
            }
            println!("{:>6.1} s   cargo {}", called.elapsed().as_secs_f64(), call.join(" "));
        }
        if !ok && count.failed == 0 {
            // A compile error or a test process that died has no result line; it is a failure all the same.
            count.failed = 1;
        }
        Ok(Outcome {
            name: self.name,
            ok,
            took: begun.elapsed(),
            count,
            settings,
        })
    }
}

impl Outcome {
    /// Of something that went well and ran no tests.
    pub(crate) fn of(name: &'static str, took: Duration) -> Self {
        Self {
            name,
            ok: true,
            took,
            count: Count::default(),
            settings: Vec::new(),
        }
    }
}

fn words(call: &str) -> Vec<String> {
    call.split_whitespace().map(str::to_owned).collect()
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// Runs cargo, passes its output on, and adds up the tests it reports.
fn cargo(args: &[String], env: &[(&'static str, String)], count: &mut Count) -> anyhow::Result<bool> {
    let mut child = sagamill_testkit::cargo()
        .args(args)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no standard output")?;
    let (said, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(output).split(b'\n');
        // An error ends it too: what then remains is to see how cargo ended.
        while let Some(Ok(line)) = lines.next()
            && said.send(line).is_ok()
        {}
    });
    loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) => {
                let text = String::from_utf8_lossy(&line);
                if let Some(found) = Count::parse(&text) {
                    *count += found;
                }
                writeln!(stdout(), "{text}").context("cannot pass on what cargo says")?;
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(child.wait().context("cannot wait for cargo")?.success());
            }
            Err(RecvTimeoutError::Timeout) => {
                println!(
                    "nothing was heard for {} minutes: it hangs, and is ended",
                    SILENCE.as_secs() / 60
                );
                processes::end_tree(child.id());
                child.wait().context("cannot wait for cargo")?;
                return Ok(false);
            }
        }
    }
}

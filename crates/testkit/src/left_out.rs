//! Tests that need what a machine may not have: left out aloud, or failed where all are asked for.

use std::{
    env,
    io::{self, Write as _},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use crate::{Error, Missing, Result};

/// The environment variable that says which tests are to run: `all`, or unset for those that this machine can run.
pub const TESTS: &str = "SAGAMILL_TESTS";

/// Tests of this program that were left out.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// What was found; none where this machine has none, and the test is left out.
///
/// # Panics
///
/// Where all tests are asked for, or what the machine has does not work: that is a failure of the test.
pub(crate) fn unless_missing<T>(found: Result<T>) -> Option<T> {
    match (found, wanted()) {
        (Ok(found), _) => Some(found),
        (Err(Error::Missing(missing)), Wanted::Possible) => {
            say(&missing);
            None
        }
        (Err(error), _) => panic!("{}", chain(&error)),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Possible,
}

fn wanted() -> Wanted {
    match env::var(TESTS).as_deref() {
        Ok("all") => Wanted::All,
        Ok("") | Err(env::VarError::NotPresent) => Wanted::Possible,
        other => panic!("{TESTS} is {other:?}: set it to `all`, or not at all"),
    }
}

/// Says what is left out, past the test harness, which shows the output of failed tests alone.
fn say(missing: &Missing) {
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    let thread = thread::current();
    // The harness names a test's thread for it.
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(io::stderr(), "left out, no. {count} of this program: {test} {missing}");
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

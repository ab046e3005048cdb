//! Tests that need what a machine may not have: left out aloud, or failed where all are asked for.

use std::{
    collections::BTreeSet,
    env,
    io::{self, Write as _},
    sync::{Mutex, PoisonError},
    thread,
};

use crate::{ALL, Error, Missing, Result, TESTS};

/// What this program has left out so far.
static LEFT_OUT: Mutex<LeftOut> = Mutex::new(LeftOut {
    count: 0,
    said: BTreeSet::new(),
});

#[derive(Debug)]
struct LeftOut {
    count: u32,
    /// What is missing: how to get it is said once.
    said: BTreeSet<&'static str>,
}

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
    let value = env::var_os(TESTS).unwrap_or_default();
    if value == ALL {
        return Wanted::All;
    }
    assert!(
        value.is_empty(),
        "{TESTS} is {value:?}: set it to `{ALL}`, or not at all"
    );
    Wanted::Possible
}

/// Says what is left out, past the test harness, which shows the output of failed tests alone.
fn say(missing: &Missing) {
    let thread = thread::current();
    // The harness names a test's thread for it.
    let test = thread.name().unwrap_or("a test");
    let mut left_out = LEFT_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    left_out.count += 1;
    let mut line = format!("left out, {} so far: {test} needs {}", left_out.count, missing.wanted);
    if left_out.said.insert(missing.wanted) {
        line = format!("left out, {} so far: {test} {missing}", left_out.count);
    }
    // In one piece: tests say it at once.
    let _ = io::stderr().write_all((line + "\n").as_bytes());
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

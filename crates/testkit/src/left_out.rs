//! Tests that need what a machine may not have: left out aloud, or failed where all are asked for.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
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
    let wanted = Wanted::of(&env::var_os(TESTS).unwrap_or_default());
    judge(found, wanted).inspect_err(say).ok()
}

/// What was found, or what is missing and need not be there.
fn judge<T>(found: Result<T>, wanted: Wanted) -> Result<T, Missing> {
    match (found, wanted) {
        (Ok(found), _) => Ok(found),
        (Err(Error::Missing(missing)), Wanted::Possible) => Err(missing),
        (Err(error), _) => panic!("{}", chain(&error)),
    }
}

/// Which tests are to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    /// Those that this machine can run.
    Possible,
}

impl Wanted {
    fn of(value: &OsStr) -> Self {
        if value == ALL {
            return Self::All;
        }
        assert!(
            value.is_empty(),
            "{TESTS} is {value:?}: set it to `{ALL}`, or not at all"
        );
        Self::Possible
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> Missing {
        Missing {
            wanted: "a server",
            found: Vec::new(),
            remedy: "get one".to_owned(),
        }
    }

    #[test]
    fn what_is_missing_is_left_out_where_not_all_is_wanted() {
        let wanted = Wanted::of(OsStr::new(""));
        assert_eq!(judge::<()>(Err(missing().into()), wanted), Err(missing()));
        assert_eq!(judge(Ok(1), wanted), Ok(1));
    }

    #[test]
    #[should_panic(expected = "needs a server: get one")]
    fn what_is_missing_is_a_failure_where_all_is_wanted() {
        let _ = judge::<()>(Err(missing().into()), Wanted::of(OsStr::new("all")));
    }

    #[test]
    #[should_panic(expected = "no name")]
    fn what_does_not_work_is_a_failure_always() {
        let _ = judge::<()>(Err(Error::Name("x".to_owned())), Wanted::Possible);
    }

    #[test]
    #[should_panic(expected = "SAGAMILL_TESTS")]
    fn what_is_wanted_is_not_guessed() {
        Wanted::of(OsStr::new("yes"));
    }
}

//! Programs that tests need and that are not installed, and which versions of those are enough.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{TOOLS, supervisor::output};

/// Where programs lie that are not installed.
pub(crate) fn directory() -> PathBuf {
    let named = env::var_os(TOOLS).filter(|named| !named.is_empty());
    let home = || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cache/sagamill-tools");
    named.map_or_else(home, PathBuf::from)
}

/// Directories where a program may be: those of the `PATH`, and the one for tools.
pub(crate) fn places() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain([directory()]).collect()
}

/// Whether there is a Docker that answers.
#[must_use]
pub fn has_docker() -> bool {
    output(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"])).is_ok()
}

/// Whether a version is this one or a later one.
pub(crate) fn is_at_least(version: &str, (major, minor): (u32, u32)) -> bool {
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

#[cfg(test)]
mod tests {
    use super::is_at_least;

    #[test]
    fn two_ten_is_new_enough_and_two_nine_is_not() {
        for fit in ["2.10.0", "2.12.8", "3.0.0", "2.11.0-RC.1", "10.0"] {
            assert!(is_at_least(fit, (2, 10)), "{fit}");
        }
        for unfit in ["2.9.10", "1.99.0", "", "unknown"] {
            assert!(!is_at_least(unfit, (2, 10)), "{unfit}");
        }
    }
}

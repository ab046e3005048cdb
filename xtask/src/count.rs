//! What a test run says of itself, added up.

use std::{fmt, ops::AddAssign};

/// Tests by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Count {
    /// The counts of one line of libtest's: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_verdict, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut count = Self::default();
        for part in counts.split("; ") {
            match part.split_once(' ') {
                Some((number, "passed")) => count.passed = number.parse().ok()?,
                Some((number, "failed")) => count.failed = number.parse().ok()?,
                Some((number, "ignored")) => count.ignored = number.parse().ok()?,
                _ => {}
            }
        }
        Some(count)
    }
    /// Whether no test was seen.
    pub(crate) fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn counts_are_read_from_the_result_line() {
        let line = "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!(
            Count::parse(line),
            Some(Count {
                passed: 12,
                failed: 1,
                ignored: 2
            })
        );
    }

    #[test]
    fn other_lines_are_no_counts() {
        for line in [
            "",
            "test a ... ok",
            "running 3 tests",
            "    test result: nested",
            "test result: ok",
        ] {
            assert_eq!(Count::parse(line), None, "{line}");
        }
    }

    #[test]
    fn counts_add_up() {
        let mut sum = Count::default();
        assert!(sum.is_zero());
        sum += Count {
            passed: 2,
            failed: 0,
            ignored: 1,
        };
        sum += Count {
            passed: 3,
            failed: 1,
            ignored: 0,
        };
        assert_eq!(sum.to_string(), "5 passed, 1 failed");
    }
}

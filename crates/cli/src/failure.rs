//! How a command ends.

use std::{io, process::ExitCode};

/// What the shell is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// It did what it was asked.
    Success = 0,
    /// It failed.
    Failure = 1,
    /// It was asked in a way that it does not understand.
    Usage = 2,
    /// There is no such thing.
    NotFound = 4,
    /// Somebody else is at it.
    #[cfg(feature = "shop")]
    Conflict = 5,
    /// Some of it could not be done; stderr says what.
    Partial = 6,
    /// What it needs is not there, or does not answer.
    Unavailable = 7,
    /// It looked, and what it found is not as it must be.
    Unverified = 8,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    error: anyhow::Error,
}

impl Failure {
    pub(crate) fn new(code: Code, error: impl Into<anyhow::Error>) -> Self {
        Self {
            code,
            error: error.into(),
        }
    }
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, anyhow::Error::msg(message.into()))
    }
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, anyhow::Error::msg(message.into()))
    }
    /// Says so on stderr. A reader that went away (`| head`) has seen enough: that is no failure, and nothing is said.
    pub(crate) fn report(self) -> ExitCode {
        if is_broken_pipe(&self.error) {
            return Code::Success.into();
        }
        eprintln!("error: {:#}", self.error);
        self.code.into()
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut sources = error.chain().filter_map(|source| source.downcast_ref::<io::Error>());
    sources.any(|source| source.kind() == io::ErrorKind::BrokenPipe)
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Code::Failure, error)
    }
}

//! The directory that holds the shop's databases, of one process at a time.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};

use crate::failure::{Code, Failure};

/// Locked as long as the process lives; the file itself stays.
const LOCK: &str = "sagamill.lock";

/// A directory, locked.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes it where it is missing, and locks it.
    pub(crate) fn open(wanted: Option<PathBuf>) -> Result<Self, Failure> {
        let path = match wanted {
            Some(path) => {
                std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
                path.canonicalize()
                    .with_context(|| format!("cannot find {}", path.display()))?
            }
            // Kept at the end: what was seen can be looked into.
            None => tempfile::Builder::new().prefix("sagamill-").tempdir()?.keep(),
        };
        let lock = File::create(path.join(LOCK)).with_context(|| format!("cannot write in {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                Code::Conflict,
                anyhow!("another process runs on {}", path.display()),
            )),
            Err(TryLockError::Error(error)) => {
                Err(anyhow!(error).context(format!("cannot lock {}", path.display())).into())
            }
        }
    }
    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

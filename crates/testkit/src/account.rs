//! Who servers run as: the user of the test; where that is root, whom most servers refuse, somebody with fewer rights.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{getegid, geteuid};

use crate::{Error, Result};

/// Users that root gives servers to, the first that exists.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// A user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    gid: u32,
}

impl Account {
    /// Whoever we are.
    pub(crate) fn own() -> Self {
        Self {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
        }
    }
    /// Whom servers run as.
    pub(crate) fn of_servers() -> Result<Self> {
        let own = Self::own();
        if own.uid != 0 {
            return Ok(own);
        }
        let named = UNPRIVILEGED.iter().find_map(|name| {
            Some(Self {
                uid: id("-u", name)?,
                gid: id("-g", name)?,
            })
        });
        named.ok_or_else(|| Error::Program {
            program: "id".to_owned(),
            words: format!("none of the users {UNPRIVILEGED:?} exists, and servers do not run as root"),
        })
    }
    /// A command that runs as this user, in English, deaf to settings that the caller has for databases of its own.
    pub(crate) fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if self.uid != geteuid().as_raw() {
            // The standard library drops all other groups where root becomes somebody else.
            command.uid(self.uid).gid(self.gid);
        }
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
        command
    }
    /// A directory of this user's that nobody else may enter; one that exists must be so.
    ///
    /// Names under `/tmp` can be foreseen: whoever made it first could put programs into it.
    pub(crate) fn private_directory(self, path: &Path) -> Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.give(path).map_err(Error::directory(path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = fs::symlink_metadata(path).map_err(Error::directory(path))?;
                if found.is_dir() && found.uid() == self.uid && found.mode() & 0o077 == 0 {
                    return Ok(());
                }
                Err(Error::Directory {
                    directory: path.to_owned(),
                    why: format!("it is not a directory of user {} alone; remove it", self.uid),
                })
            }
            Err(error) => Err(Error::directory(path)(error)),
        }
    }
    /// Makes a file or directory this user's.
    pub(crate) fn give(self, path: &Path) -> io::Result<()> {
        if self.uid == geteuid().as_raw() {
            return Ok(());
        }
        chown(path, Some(self.uid), Some(self.gid))
    }
}

fn id(which: &str, user: &str) -> Option<u32> {
    let output = Command::new("id").args([which, user]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn servers_never_run_as_root() {
        assert_ne!(Account::of_servers().unwrap().uid, 0);
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        let account = Account::own();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own");
        account.private_directory(&path).unwrap();
        account.private_directory(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(account.private_directory(&path), Err(Error::Directory { .. })));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(matches!(account.private_directory(&link), Err(Error::Directory { .. })));
    }
}

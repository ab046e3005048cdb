//! A server that stays until it is told to stop.

#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use sagamill_testkit::{
    Error,
    postgres::{Daemon, Installation, State, own},
};
use tempfile::TempDir;

use crate::sql::{note, notes};

#[tokio::test]
async fn a_daemon_keeps_its_data_and_its_url() {
    let Some(place) = Place::new(0o755).await else { return };
    assert_eq!(place.daemon().state(), State::Absent);
    assert!(!place.daemon().down().unwrap());

    let url = place.up().unwrap();
    note(&url, "kept").await;
    assert_eq!(place.daemon().state(), State::Running { url: url.clone() });
    assert_eq!(place.up().unwrap(), url, "it runs already");

    assert!(place.daemon().down().unwrap());
    assert_eq!(place.daemon().state(), State::Stopped);
    assert!(!place.daemon().down().unwrap());
    assert_eq!(place.up().unwrap(), url);
    assert_eq!(notes(&url).await, ["kept"]);
}

#[tokio::test]
async fn a_directory_that_the_servers_user_does_not_reach_is_said() {
    let Some(place) = Place::new(0o700).await else { return };
    match place.up() {
        Err(Error::Directory { .. }) => {}
        // Where this is not root, the server runs as this user; and a container needs no directory.
        Ok(_) => assert!(!rustix::process::geteuid().is_root() || place.in_docker()),
        Err(error) => panic!("{error}"),
    }
}

/// A folder with a daemon, which stops with this value.
struct Place(TempDir);

impl Place {
    async fn new(mode: u32) -> Option<Self> {
        own().await?;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        Some(Self(folder))
    }
    fn daemon(&self) -> Daemon {
        Daemon::at(self.0.path().join("postgres"))
    }
    fn up(&self) -> Result<String, Error> {
        self.daemon().up(&Installation::find()?)
    }
    fn in_docker(&self) -> bool {
        self.container().is_some()
    }
    fn container(&self) -> Option<String> {
        fs::read_to_string(self.0.path().join("postgres/container")).ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.daemon().down();
        if let Some(name) = self.container() {
            let _ = Command::new("docker")
                .args(["rm", "--force", "--volumes", &name])
                .output();
        }
    }
}

//! A server that stays until it is told to stop.

#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use sagamill_testkit::{
    Error,
    postgres::{Daemon, Installation, State, own},
};

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

/// A folder with a daemon. Both go with this value, and with this process, however that ends.
struct Place {
    folder: PathBuf,
    guard: Child,
}

/// Ends a daemon and removes its folder when the input ends: nobody else will where this test is killed.
const GUARD: &str = r#"
cat >/dev/null
cd "$0/postgres" && {
    if [ -e container ]; then docker rm --force --volumes "$(cat container)"; fi
    if [ -e data/postmaster.pid ]; then kill -QUIT "$(head -n 1 data/postmaster.pid)"; fi
}
rm -rf "$0"
"#;

impl Place {
    async fn new(mode: u32) -> Option<Self> {
        own().await?;
        let folder = tempfile::tempdir().unwrap().keep();
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD]).arg(&folder).process_group(0);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Some(Self {
            folder,
            guard: guard.spawn().unwrap(),
        })
    }
    fn daemon(&self) -> Daemon {
        Daemon::at(self.folder.join("postgres"))
    }
    fn up(&self) -> Result<String, Error> {
        self.daemon().up(&Installation::find()?)
    }
    fn in_docker(&self) -> bool {
        self.folder.join("postgres/container").exists()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

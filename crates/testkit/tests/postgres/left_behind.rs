//! A process that used a server dies, and nothing of it stays.

#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use sagamill_testkit::postgres::own;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::sql::{PATIENCE, connect};

#[tokio::test]
async fn nothing_is_left_behind_by_a_process_that_is_killed() {
    let Some(mut user) = User::start().await else { return };
    user.process.kill().unwrap();
    user.process.wait().unwrap();
    user.is_gone().await;
}

#[tokio::test]
async fn nothing_is_left_behind_by_a_process_that_is_killed_over_a_server_that_stands_still() {
    let Some(mut user) = User::start().await else { return };
    rustix::process::kill_process(user.postmaster(), rustix::process::Signal::STOP).unwrap();
    user.process.kill().unwrap();
    user.process.wait().unwrap();
    user.is_gone().await;
}

#[tokio::test]
async fn nothing_is_left_behind_by_a_process_that_ends() {
    let Some(mut user) = User::start().await else { return };
    drop(user.input.take());
    assert!(user.process.wait().unwrap().success());
    user.is_gone().await;
}

/// A process that has a server, and a folder of its own for temporary files.
struct User {
    process: Child,
    input: Option<ChildStdin>,
    url: String,
    folder: TempDir,
}

impl User {
    /// None where this machine has no server; or its URL and the directory are looked at.
    async fn start() -> Option<Self> {
        own().await?;
        let folder = tempfile::tempdir().unwrap();
        // The server runs as another user where this is root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut process = Command::new(example("throwaway"))
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`cargo test` builds examples; else: cargo build -p sagamill-testkit --examples");
        let mut url = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut url).unwrap();
        let user = Self {
            input: process.stdin.take(),
            process,
            url: url.trim().to_owned(),
            folder,
        };
        connect(&user.url).await.close().await.unwrap();
        assert_eq!(user.directories().len(), 1);
        Some(user)
    }
    /// Waits until its server and the files of that are no more.
    async fn is_gone(&self) {
        let gone = async {
            while !self.directories().is_empty() || PgConnection::connect(&self.url).await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, gone).await.expect("the server ends with its user");
    }
    /// Those of servers, besides what is kept for the next.
    fn directories(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.to_string_lossy().contains("sagamill-test-"))
            .collect()
    }
    fn postmaster(&self) -> rustix::process::Pid {
        let file = self.directories().remove(0).join("data/postmaster.pid");
        let pid = fs::read_to_string(file)
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        rustix::process::Pid::from_raw(pid).unwrap()
    }
}

/// An example of this package, as a program.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in target/<profile>/deps");
    profile
        .join("examples")
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

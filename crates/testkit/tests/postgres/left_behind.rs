//! A process that has a server dies, and nothing of it stays.

#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _, stderr, stdin},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdin, Command, Stdio},
    time::Duration,
};

use sagamill_testkit::postgres::{Installation, own};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::sql::{PATIENCE, connect};

#[tokio::test]
async fn nothing_is_left_behind_by_a_process_that_is_killed() {
    let Some(mut owner) = Owner::start().await else { return };
    owner.process.kill().unwrap();
    owner.process.wait().unwrap();
    owner.leaves_nothing().await;
}

#[tokio::test]
async fn nothing_is_left_behind_by_a_process_that_is_killed_over_a_server_that_stands_still() {
    let Some(mut owner) = Owner::start().await else { return };
    owner.order("pause");
    owner.process.kill().unwrap();
    owner.process.wait().unwrap();
    owner.leaves_nothing().await;
}

#[tokio::test]
async fn nothing_is_left_behind_by_a_process_that_is_killed_over_a_server_that_was_killed() {
    let Some(mut owner) = Owner::start().await else { return };
    owner.order("kill");
    owner.process.kill().unwrap();
    owner.process.wait().unwrap();
    owner.leaves_nothing().await;
}

#[tokio::test]
async fn nothing_is_left_behind_by_a_process_that_ends() {
    let Some(mut owner) = Owner::start().await else { return };
    drop(owner.input.take());
    assert!(owner.process.wait().unwrap().success());
    owner.leaves_nothing().await;
}

#[tokio::test]
async fn nothing_is_left_behind_by_a_process_that_is_killed_while_its_server_starts() {
    let Some(whole) = Owner::start().await else { return };
    for milliseconds in [5, 20, 40, 60, 80, 100, 150, 200, 300, 400] {
        let mut owner = whole.another();
        sleep(Duration::from_millis(milliseconds)).await;
        owner.kill().unwrap();
        owner.wait().unwrap();
    }
    let left = async {
        while whole.directories().len() > 1 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, left)
        .await
        .expect("but the one that lives, all servers end");
}

/// Not a test: the process that has a server, and whose end is looked at. It obeys until its input ends.
#[test]
#[ignore = "the tests beside it run it, each as a process of its own"]
fn owner() {
    let mut server = Installation::find().unwrap().start(&[]).unwrap();
    // The harness itself speaks on standard output.
    writeln!(stderr(), "{}", server.url()).unwrap();
    for order in stdin().lines().map_while(Result::ok) {
        match order.as_str() {
            "pause" => server.pause().unwrap(),
            "kill" => server.kill().unwrap(),
            _ => panic!("{order}?"),
        }
        writeln!(stderr(), "{order}").unwrap();
    }
}

/// A process that has a server, and a folder of its own for temporary files.
struct Owner {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStderr>,
    url: String,
    folder: TempDir,
}

impl Owner {
    /// None where this machine has no server. It runs, and its URL and its directory are known.
    async fn start() -> Option<Self> {
        own().await?;
        let folder = tempfile::tempdir().unwrap();
        // The server runs as another user where this is root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut process = spawn(folder.path());
        let mut owner = Self {
            input: process.stdin.take(),
            output: BufReader::new(process.stderr.take().unwrap()),
            process,
            url: String::new(),
            folder,
        };
        owner.url = owner.line();
        connect(&owner.url).await.close().await.unwrap();
        assert_eq!(owner.directories().len(), 1);
        Some(owner)
    }
    /// Another process that begins to have a server, in the same folder.
    fn another(&self) -> Child {
        spawn(self.folder.path())
    }
    /// Has it do something, and waits until that is done.
    fn order(&mut self, order: &str) {
        writeln!(self.input.as_mut().unwrap(), "{order}").unwrap();
        assert_eq!(self.line(), order);
    }
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
    /// Waits until its server and the files of that are no more.
    async fn leaves_nothing(&self) {
        let gone = async {
            while !self.directories().is_empty() || PgConnection::connect(&self.url).await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, gone).await.expect("the server ends with its owner");
    }
    /// Those of servers, besides what is kept for the next.
    fn directories(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.to_string_lossy().contains("sagamill-test-"))
            .collect()
    }
}

fn spawn(folder: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "left_behind::owner", "--ignored", "--nocapture"])
        .env("TMPDIR", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

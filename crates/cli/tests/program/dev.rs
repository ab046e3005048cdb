//! `sagamill dev` as a process.

#![expect(clippy::unwrap_used, reason = "the tools of a test fail it by panicking")]

use std::{path::Path, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout},
    time::timeout,
};

use crate::program::{PATIENCE, command};

/// `sagamill dev -o json`, running.
pub(crate) struct Dev {
    child: Child,
    sagas: Lines<BufReader<ChildStdout>>,
    talk: Lines<BufReader<ChildStderr>>,
    pub(crate) address: String,
}

impl Dev {
    pub(crate) async fn start(data: &Path, more: &[&str]) -> Self {
        let data = data.display().to_string();
        let arguments = [&["dev", "--data", &data, "--listen", "127.0.0.1:0", "-o", "json"], more].concat();
        let mut child = command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let sagas = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut talk = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = timeout(PATIENCE, talk.next_line())
                .await
                .unwrap()
                .unwrap()
                .expect("it says where it listens");
            if let Some((_, after)) = line.split_once("http://") {
                break after.split_whitespace().next().unwrap().to_owned();
            }
        };
        Self {
            child,
            sagas,
            talk,
            address,
        }
    }
    /// The next saga that ends.
    pub(crate) async fn saga(&mut self) -> Value {
        let line = timeout(PATIENCE, self.sagas.next_line())
            .await
            .expect("a saga ends")
            .unwrap();
        serde_json::from_str(&line.expect("the process runs")).unwrap()
    }
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = timeout(PATIENCE, reqwest::get(format!("http://{}{path}", self.address)))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }
    /// Asks it to stop, as Ctrl-C does; gives its code and what it said at last.
    pub(crate) async fn interrupt(mut self) -> (Option<i32>, String) {
        kill_process(self.pid(), Signal::INT).unwrap();
        let mut rest = Vec::new();
        timeout(PATIENCE, self.sagas.into_inner().read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
        let mut said = String::new();
        timeout(PATIENCE, self.talk.into_inner().read_to_string(&mut said))
            .await
            .unwrap()
            .unwrap();
        (
            timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap().code(),
            said,
        )
    }
    /// `kill -9`.
    pub(crate) async fn kill(mut self) {
        kill_process(self.pid(), Signal::KILL).unwrap();
        self.child.wait().await.unwrap();
    }
    fn pid(&self) -> Pid {
        let id = self.child.id().expect("it runs").try_into().unwrap();
        Pid::from_raw(id).unwrap()
    }
}

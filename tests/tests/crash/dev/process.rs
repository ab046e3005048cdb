//! One run of the real binary: started on a directory, told where to die, watched until it is gone.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use crate::program::program;

/// What one line of `sagamill dev -o json` says.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Ended {
    pub(crate) saga: String,
    pub(crate) state: String,
    #[serde(skip, default = "Instant::now")]
    pub(crate) at: Instant,
}

/// A running `sagamill dev`.
pub(crate) struct Dev {
    child: Child,
    pub(crate) lines: Receiver<Ended>,
    pub(crate) started: Instant,
}

impl Dev {
    /// Starts it with load; `kill` is `point:n`, at whose n-th pass it kills itself.
    pub(crate) fn start(data: &Path, rate: u32, seed: u64, kill: Option<&str>) -> Self {
        let mut command = program("sagamill");
        command
            .args(["dev", "-o", "json", "--log", "json", "--listen", "127.0.0.1:0"])
            .arg("--data")
            .arg(data)
            .args(["--rate", &rate.to_string(), "--seed", &seed.to_string()])
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(
                std::fs::File::options()
                    .create(true)
                    .append(true)
                    .open(data.with_extension("log"))
                    .expect("the log file can be written"),
            ));
        if rate == 0 {
            command.arg("--no-load");
        }
        if let Some(kill) = kill {
            command.env("SAGAMILL_KILL", kill);
        }
        let started = Instant::now();
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("piped");
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The last line of a killed process may be cut short.
                if let Ok(ended) = serde_json::from_str::<Ended>(&line) {
                    let _ = send.send(Ended {
                        at: Instant::now(),
                        ..ended
                    });
                }
            }
        });
        Self { child, lines, started }
    }
    /// Whether it is gone.
    pub(crate) fn gone(&mut self) -> bool {
        self.child.try_wait().expect("the child can be asked").is_some()
    }
    /// Waits for its own death; false: it lives on.
    pub(crate) fn dies_within(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if self.gone() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.gone()
    }
    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child can be waited for");
    }
    /// The next saga that ended; none: nothing within the time, or the process is gone.
    pub(crate) fn next(&self, within: Duration) -> Option<Ended> {
        self.lines.recv_timeout(within).ok()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

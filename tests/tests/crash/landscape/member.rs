//! One process of the landscape, over all its lives.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{books::block_on, program::program};

/// How long a process may take to end in order. It is long: a drain waits for what is at work.
const END: Duration = Duration::from_secs(60);
/// How long it may take until it is ready for the first time.
const READY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Inventory,
    Payment,
    Shipping,
    /// Takes orders, and is one of the coordinators.
    Order,
    /// The order service's program, running its sagas only.
    Coordinator,
}

impl Role {
    /// Who there is.
    pub(super) const MEMBERS: [Self; 6] = [
        Self::Inventory,
        Self::Payment,
        Self::Shipping,
        Self::Order,
        Self::Coordinator,
        Self::Coordinator,
    ];
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Inventory => "shop-inventory",
            Self::Payment => "shop-payment",
            Self::Shipping => "shop-shipping",
            Self::Order | Self::Coordinator => "shop-order",
        }
    }
    pub(super) fn is_coordinator(self) -> bool {
        matches!(self, Self::Order | Self::Coordinator)
    }
}

pub(super) struct Member {
    pub(super) role: Role,
    /// What its command line is told, its address aside.
    pub(super) arguments: Vec<String>,
    pub(super) port: u16,
    pub(super) log: PathBuf,
    pub(super) life: Option<Child>,
}

impl Member {
    pub(super) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
    /// Starts it; `kill` is `point:n`, at whose n-th pass it kills itself.
    pub(super) fn start(&mut self, kill: Option<&str>) {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.expect("the log file can be written");
        let mut command = program(self.role.program());
        command
            .args(&self.arguments)
            .args(["--log", "json", "--listen", &self.address().to_string()])
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file can be written"))
            .stderr(log);
        if let Some(kill) = kill {
            command.env("SAGAMILL_KILL", kill);
        }
        self.life = Some(command.spawn().expect("the program starts"));
    }
    /// Waits until it says that it is ready.
    pub(super) fn get_ready(&mut self) {
        let end = Instant::now() + READY;
        while block_on(self.get("readyz")).is_none() {
            self.check_alive();
            assert!(
                Instant::now() < end,
                "it is not ready within {READY:?}; see {}",
                self.log.display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    /// One of its pages, if it answers in time.
    pub(super) async fn get(&self, page: &str) -> Option<String> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(1)).no_proxy();
        let url = format!("http://{}/{page}", self.address());
        let answer = client.build().ok()?.get(url).send().await.ok()?;
        answer.error_for_status().ok()?.text().await.ok()
    }
    fn life(&mut self) -> &mut Child {
        self.life.as_mut().expect("invariant: it was started")
    }
    fn signal(&mut self, signal: Signal) {
        let pid = Pid::from_child(self.life());
        kill_process(pid, signal).expect("the process can be signalled");
    }
    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        self.life().kill().expect("the process can be killed");
        self.life().wait().expect("the process can be waited for");
    }
    /// SIGTERM; waits until it has ended in order.
    pub(super) fn end(&mut self) {
        self.signal(Signal::TERM);
        assert!(
            self.dies_within(END),
            "it does not end within {END:?}; see {}",
            self.log.display()
        );
        let status = self.life().wait().expect("the process can be waited for");
        assert!(status.success(), "it ended with {status}; see {}", self.log.display());
    }
    pub(super) fn pause(&mut self) {
        self.signal(Signal::STOP);
    }
    pub(super) fn resume(&mut self) {
        self.signal(Signal::CONT);
    }
    pub(super) fn check_alive(&mut self) {
        let ended = self.life().try_wait().expect("the process can be asked");
        assert!(
            ended.is_none(),
            "it ended by itself, {ended:?}; see {}",
            self.log.display()
        );
    }
    /// Waits for its death; false: it lives on.
    pub(super) fn dies_within(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            if self.life().try_wait().expect("the process can be asked").is_some() {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(life) = &mut self.life {
            let _ = life.kill();
            let _ = life.wait();
        }
    }
}

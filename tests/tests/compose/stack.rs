//! The containers of `docker-compose.yml` on one bus, in a project of their own, gone with this value.

use std::{
    net::TcpListener,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) struct Stack {
    bus: &'static str,
    project: String,
    port: u16,
}

impl Stack {
    /// Starts all, and waits until they are healthy.
    pub(crate) fn up(bus: &'static str, within: Duration) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let stack = Self {
            bus,
            project: format!("sagamill-test-{bus}"),
            port: port.expect("a port is free").port(),
        };
        // Of a run that was killed.
        stack.compose(&["down", "--volumes"]);
        let within = within.as_secs().to_string();
        stack.compose(&["up", "--detach", "--no-build", "--wait", "--wait-timeout", &within]);
        stack
    }
    /// The names of all containers.
    pub(crate) fn containers(&self) -> Vec<String> {
        let names = self.compose(&["ps", "--format", "{{.Name}}"]);
        let names: Vec<String> = names.lines().map(str::to_owned).collect();
        assert!(
            names.len() > 7,
            "four services, two coordinators, a database, a bus, a load: {names:?}"
        );
        names
    }
    pub(crate) fn kill(&self, container: &str) {
        self.docker(&["kill", container]);
    }
    /// Starts one again, and waits until it is healthy, where it says so.
    pub(crate) fn start(&self, container: &str, within: Duration) {
        self.docker(&["start", container]);
        let end = Instant::now() + within;
        let state = "{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}";
        loop {
            let now = self.docker(&["inspect", "--format", state, container]);
            if matches!(now.trim(), "healthy" | "running") {
                return;
            }
            assert!(Instant::now() < end, "{container} is {now} still\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    pub(crate) fn stop_load(&self) {
        let load = self.containers().into_iter().find(|name| name.contains("-load"));
        self.docker(&["stop", &load.expect("there is a load")]);
    }
    /// None: it, or one that it asks, does not answer.
    pub(crate) fn ledger(&self) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/ledger", self.port);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let answer = reqwest::Client::builder().no_proxy().build().ok()?.get(url);
            let answer = answer.timeout(Duration::from_secs(5)).send().await.ok()?;
            answer.error_for_status().ok()?.json().await.ok()
        })
    }
    pub(crate) fn logs(&self) -> String {
        self.compose(&["logs", "--no-color", "--tail", "20"])
    }

    fn compose(&self, arguments: &[&str]) -> String {
        let of = ["compose", "--project-name", &self.project, "--profile", self.bus];
        self.docker(&[&of, arguments].concat())
    }
    fn docker(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(arguments).output().expect("docker can be started");
        let (said, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "docker {}: {said}{complained}", arguments.join(" "));
        said.into_owned()
    }
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(arguments)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .env("SAGAMILL_PORT", self.port.to_string());
        command
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let project = &self.project;
        let down = [
            "compose",
            "--project-name",
            project,
            "--profile",
            self.bus,
            "down",
            "--volumes",
        ];
        // What is left is taken down by the next run.
        let _ = self.command(&down).output();
    }
}

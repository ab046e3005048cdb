//! A PgBouncer in front of the test server, where there is one.

use std::{
    env,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::Database;

/// The program; by default the one in the path.
const VARIABLE: &str = "SAGAMILL_TEST_PGBOUNCER";

/// Ends with it.
pub(crate) struct Pooler {
    process: Child,
    url: String,
    /// Major and minor.
    version: (u32, u32),
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// None where there is none, which is said.
    pub(crate) fn before(database: &Database, mode: &str) -> Option<Self> {
        let program = env::var_os(VARIABLE).map_or_else(|| PathBuf::from("pgbouncer"), PathBuf::from);
        let Ok(said) = Command::new(&program).arg("--version").output() else {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            eprintln!("left out: {test} needs PgBouncer; install it, or set {VARIABLE} to the program");
            return None;
        };
        let version = version(&String::from_utf8(said.stdout).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = database.url();
        let (_, rest) = url.split_once("://").unwrap();
        let (user, host) = rest.rsplit_once('@').expect("the URL names a user");
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let (host, _) = host.split_once('/').unwrap();
        let (server, server_port) = host.split_once(':').unwrap_or((host, "5432"));
        let path = folder.path().display();
        let root = if is_root() { "user = postgres" } else { "" };
        // By session each of a store's connections takes one of the server's.
        let size = if mode == "session" { 80 } else { 8 };
        let settings = format!(
            "[databases]\n* = host={server} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {path}/users\npool_mode = {mode}\n\
             default_pool_size = {size}\n\
             ignore_startup_parameters = extra_float_digits\nlogfile = {path}/log\npidfile = {path}/pid\n{root}\n"
        );
        std::fs::write(folder.path().join("ini"), settings).unwrap();
        std::fs::write(folder.path().join("users"), format!("\"{user}\" \"{password}\"\n")).unwrap();
        if is_root() {
            let all = Command::new("chown")
                .args(["-R", "postgres"])
                .arg(folder.path())
                .status();
            assert!(all.unwrap().success());
        }
        let mut command = Command::new(&program);
        command
            .arg(folder.path().join("ini"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let this = Self {
            process: command.spawn().unwrap(),
            url: url.replace(host, &format!("127.0.0.1:{port}")),
            version,
            _folder: folder,
        };
        this.wait(port);
        Some(this)
    }
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
    /// Whether it keeps prepared statements where server connections are handed out by transaction.
    pub(crate) fn keeps_statements(&self) -> bool {
        self.version >= (1, 21)
    }
    fn wait(&self, port: u16) {
        for _ in 0..500 {
            // Its port is open before it takes anybody: it answers that it speaks no TLS.
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
                let mut answer = [0];
                stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
                if stream.read(&mut answer).is_ok_and(|read| read == 1) {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("PgBouncer does not start");
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn version(said: &str) -> (u32, u32) {
    let number = said
        .lines()
        .next()
        .and_then(|line| line.rsplit(' ').next())
        .expect("it says its version");
    let mut parts = number
        .split('.')
        .map(|part| part.parse().expect("a version is numbers"));
    (parts.next().unwrap(), parts.next().unwrap())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

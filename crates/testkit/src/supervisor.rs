//! A shell between a test and its server: it outlives the test by a moment, and takes the server with it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{Error, Result, account::Account, process, random};

const SCRIPT: &str = include_str!("supervisor.sh");
/// How long a server may take to end when nothing of it will be needed any more.
const END_MAX: Duration = Duration::from_secs(30);
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 25;

/// Runs a server in a directory of its own until it is dropped, or its process dies however: the server then ends at once,
/// and the directory goes.
///
/// The shell learns of that from a pipe that ends. A signal at the parent's death (`PR_SET_PDEATHSIG`) would come when the
/// *thread* that made the child ends, and would not remove the directory.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shell: Child,
    /// For orders and answers; none: the shell has been told of the end.
    pipes: Option<(ChildStdin, BufReader<ChildStdout>)>,
    directory: PathBuf,
}

/// What is of one kind of server, for the script.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    /// `start`, which gets the port and the arguments, and `end`.
    pub(crate) functions: &'a str,
    /// What they find in the environment, besides `dir`.
    pub(crate) variables: &'a [(&'a str, &'a str)],
    pub(crate) arguments: &'a [String],
}

impl Supervisor {
    /// Makes the directory, and starts nothing yet.
    pub(crate) fn new(account: Account, part: &Part<'_>) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("sagamill-test-{}", random::suffix()));
        let mut shell = account
            .command("sh")
            .args(["-c", &format!("{}\n{SCRIPT}", part.functions), "sh"])
            .args(part.arguments)
            .envs(part.variables.iter().copied())
            .env("dir", &directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C is for the test. What it leaves is cleaned up here.
            .process_group(0)
            .spawn()
            .map_err(Error::run("sh"))?;
        let pipes = shell.stdin.take().zip(shell.stdout.take().map(BufReader::new));
        let mut supervisor = Self {
            shell,
            pipes,
            directory,
        };
        if supervisor.answer()? != "made" {
            return Err(Error::Directory {
                directory: supervisor.directory.clone(),
                why: format!("user {} cannot make it", account.uid),
            });
        }
        Ok(supervisor)
    }
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
    /// Starts the server; gives what `start` has put into `id`, or none where it failed: its words are in the log.
    pub(crate) fn start(&mut self, port: u16) -> Result<Option<String>> {
        let (orders, _) = self.pipes.as_mut().expect("invariant: they are taken by drop alone");
        writeln!(orders, "{port}").map_err(Error::run("sh"))?;
        let answer = self.answer()?;
        Ok((!answer.is_empty() && answer != "failed").then_some(answer))
    }
    /// The shell's next line; nothing where it has ended.
    fn answer(&mut self) -> Result<String> {
        let (_, answers) = self.pipes.as_mut().expect("invariant: they are taken by drop alone");
        let mut answer = String::new();
        answers.read_line(&mut answer).map_err(Error::run("sh"))?;
        Ok(answer.trim().to_owned())
    }
    /// What the server has said.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.directory.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
    pub(crate) fn failure(&self, server: &str, why: impl Into<String>) -> Error {
        Error::Start {
            server: server.to_owned(),
            why: why.into(),
            log: tail(&self.log()),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.pipes.take());
        let end = Instant::now() + END_MAX;
        while let Ok(None) = self.shell.try_wait() {
            if Instant::now() > end {
                // It goes on without us; whoever looks for what is left over shall know why.
                let _ = writeln!(
                    std::io::stderr(),
                    "a server did not end within {END_MAX:?}: see {}",
                    self.directory.display()
                );
                return;
            }
            sleep(process::PAUSE);
        }
    }
}

/// The end of a log.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// What a program prints; its own words as an error where it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(Error::run(&program))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let words = format!("{} {}", text(&output.stderr), text(&output.stdout));
    Err(Error::Program {
        program,
        words: format!("{}, {}", words.trim(), output.status),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// A server that "listens" for as many seconds as its port says, and on no port below 10.
    const SLEEPER: Part<'_> = Part {
        functions: r#"
            start() { [ "$1" -ge 10 ] || return; sleep "$1" & id=$!; }
            end() { kill -KILL "$id"; wait "$id"; }
        "#,
        variables: &[],
        arguments: &[],
    };

    fn sleeper() -> Supervisor {
        Supervisor::new(Account::of_servers().unwrap(), &SLEEPER).unwrap()
    }

    fn pid(answer: Option<String>) -> u32 {
        answer.expect("it starts").parse().expect("a process id")
    }

    #[test]
    fn the_end_of_the_owner_is_the_end_of_the_server_and_its_directory() {
        let mut supervisor = sleeper();
        let pid = pid(supervisor.start(60).unwrap());
        assert!(process::runs(pid).unwrap());
        let directory = supervisor.directory().to_owned();
        assert!(directory.exists());
        drop(supervisor);
        assert!(!process::runs(pid).unwrap());
        assert!(!directory.exists());
    }

    #[test]
    fn a_server_that_does_not_start_is_no_server() {
        let mut supervisor = sleeper();
        assert_eq!(supervisor.start(9).unwrap(), None);
    }

    #[test]
    fn an_owner_that_dies_before_the_answer_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let file = folder.path().join("pid");
        let part = Part {
            functions: r#"
                start() { sleep 0.3; sleep "$1" & id=$!; echo "$id" >"$file"; }
                end() { kill -KILL "$id"; wait "$id"; }
            "#,
            variables: &[("file", &file.display().to_string())],
            arguments: &[],
        };
        let mut supervisor = Supervisor::new(Account::of_servers().unwrap(), &part).unwrap();
        let (mut orders, answers) = supervisor.pipes.take().unwrap();
        writeln!(orders, "60").unwrap();
        drop((orders, answers));
        process::wait_until(|| Ok(!supervisor.directory().exists()), "the end of the directory").unwrap();
        let pid = fs::read_to_string(file).unwrap().trim().parse().unwrap();
        assert!(!process::runs(pid).unwrap());
    }

    #[test]
    fn a_supervisor_that_is_asked_to_end_takes_its_server_along() {
        let mut supervisor = sleeper();
        let pid = pid(supervisor.start(60).unwrap());
        process::signal(supervisor.shell.id(), rustix::process::Signal::TERM);
        process::wait_gone(&[pid]).unwrap();
        let directory = supervisor.directory().to_owned();
        process::wait_until(|| Ok(!directory.exists()), "the end of the directory").unwrap();
    }
}

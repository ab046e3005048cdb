//! Processes that are not our children: who descends from whom, signals, and being gone.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, Result};

/// How often a change is looked for.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);
/// How long a process may take to obey a signal that it cannot refuse.
const OBEY_MAX: Duration = Duration::from_secs(30);

/// How a process is, as far as this crate cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Alive,
    /// By a signal.
    Stopped,
    /// Dead; nobody has asked for its exit code yet.
    Zombie,
}

/// The processes of this machine at one moment: the parent and the condition of each.
#[derive(Debug)]
pub(crate) struct Table(BTreeMap<u32, (u32, Condition)>);

impl Table {
    pub(crate) fn now() -> Result<Self> {
        if has_proc() { Self::of_proc() } else { Self::of_ps() }
    }
    /// Linux.
    fn of_proc() -> Result<Self> {
        let entries = fs::read_dir("/proc").map_err(Error::directory("/proc"))?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        // A process that ends meanwhile has no line any more.
        let lines = pids.filter_map(|pid| Some((pid, fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)));
        Ok(Self(
            lines.filter_map(|(pid, line)| Some((pid, stat(&line)?))).collect(),
        ))
    }
    /// Other systems.
    fn of_ps() -> Result<Self> {
        let output = Command::new("ps")
            .args(["-A", "-o", "pid=,ppid=,stat="])
            .output()
            .map_err(Error::run("ps"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let pid = words.next()?.parse().ok()?;
            let parent = words.next()?.parse().ok()?;
            Some((pid, (parent, condition(words.next()?)?)))
        });
        Ok(Self(lines.collect()))
    }
    /// Those that descend from a process, without itself.
    pub(crate) fn descendants(&self, root: u32) -> Vec<u32> {
        let mut found = vec![root];
        let mut next = 0;
        while let Some(&parent) = found.get(next) {
            let children = self.0.iter().filter(|(_, of)| of.0 == parent).map(|(&pid, _)| pid);
            let new: Vec<_> = children.filter(|pid| !found.contains(pid)).collect();
            found.extend(new);
            next += 1;
        }
        found.split_off(1)
    }
    fn condition(&self, pid: u32) -> Option<Condition> {
        self.0.get(&pid).map(|(_, condition)| *condition)
    }
}

fn has_proc() -> bool {
    Path::new("/proc/self/stat").exists()
}

/// The parent and the condition in a line of `/proc/PID/stat`. The name before them may contain anything.
fn stat(line: &str) -> Option<(u32, Condition)> {
    let (_, rest) = line.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    let condition = condition(words.next()?)?;
    Some((words.next()?.parse().ok()?, condition))
}

fn condition(word: &str) -> Option<Condition> {
    Some(match word.chars().next()? {
        'T' | 't' => Condition::Stopped,
        'Z' | 'X' => Condition::Zombie,
        _ => Condition::Alive,
    })
}

/// How a process is now; none: it is no more.
fn condition_of(pid: u32) -> Result<Option<Condition>> {
    if !has_proc() {
        return Ok(Table::of_ps()?.condition(pid));
    }
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    Ok(stat(&line).map(|(_, condition)| condition))
}

/// Whether a process runs, or could go on.
pub(crate) fn runs(pid: u32) -> Result<bool> {
    Ok(matches!(
        condition_of(pid)?,
        Some(Condition::Alive | Condition::Stopped)
    ))
}

/// Sends a signal; to one that is gone, it is nothing.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let _ = kill_process(known.expect("invariant: the system gave this process id"), signal);
}

/// Stops a process and all that descend from it; gives those.
///
/// The parent first, and until it stands: it then starts no more of them, and nobody takes the ids of those that die,
/// because it does not ask after them.
pub(crate) fn stop_tree(pid: u32) -> Result<Vec<u32>> {
    signal(pid, Signal::STOP);
    wait_until(
        || Ok(condition_of(pid)? != Some(Condition::Alive)),
        "the stop of a process",
    )?;
    let descendants = Table::now()?.descendants(pid);
    for &child in &descendants {
        signal(child, Signal::STOP);
    }
    Ok(descendants)
}

/// Lets a process and all that descend from it go on.
pub(crate) fn continue_tree(pid: u32) -> Result<()> {
    for child in Table::now()?.descendants(pid) {
        signal(child, Signal::CONT);
    }
    signal(pid, Signal::CONT);
    Ok(())
}

/// Kills a process and all that descend from it, as a crash of the machine would, and waits until they are gone.
pub(crate) fn kill_tree(pid: u32) -> Result<()> {
    let mut all = stop_tree(pid)?;
    all.push(pid);
    for &one in &all {
        signal(one, Signal::KILL);
    }
    wait_gone(&all)
}

/// Waits until none of them runs.
pub(crate) fn wait_gone(pids: &[u32]) -> Result<()> {
    for &pid in pids {
        wait_until(|| Ok(!runs(pid)?), "the end of a process")?;
    }
    Ok(())
}

/// Looks until something is so; for at most as long as a process may take to obey.
pub(crate) fn wait_until(mut so: impl FnMut() -> Result<bool>, what: &str) -> Result<()> {
    let end = Instant::now() + OBEY_MAX;
    while !so()? {
        if Instant::now() > end {
            return Err(Error::Late {
                what: what.to_owned(),
                within: OBEY_MAX,
            });
        }
        sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_is_read_over() {
        assert_eq!(stat("7 (a) S (b) T 5 6 7"), Some((5, Condition::Stopped)));
        assert_eq!(stat("7 (postgres) S 1 7 7"), Some((1, Condition::Alive)));
        assert_eq!(stat("nothing"), None);
    }

    #[test]
    fn a_tree_is_stopped_continued_and_killed() {
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'sleep 60 & wait' & sleep 60; wait"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let root = shell.id();
        wait_until(|| Ok(Table::now()?.descendants(root).len() == 3), "three children").unwrap();
        let children = stop_tree(root).unwrap();
        assert_eq!(children.len(), 3);
        let are = |condition: Condition| {
            let children = children.clone();
            move || {
                let table = Table::now()?;
                Ok(children.iter().all(|&pid| table.condition(pid) == Some(condition)))
            }
        };
        wait_until(are(Condition::Stopped), "all stopped").unwrap();
        continue_tree(root).unwrap();
        wait_until(are(Condition::Alive), "all going on").unwrap();
        kill_tree(root).unwrap();
        for pid in children {
            assert!(!runs(pid).unwrap());
        }
        shell.wait().unwrap();
        assert!(!runs(root).unwrap());
    }

    #[test]
    fn ps_and_proc_agree() {
        let own = std::process::id();
        let (Ok(proc), Ok(ps)) = (Table::of_proc(), Table::of_ps()) else {
            return; // Only where a machine has both.
        };
        assert_eq!(
            proc.0.get(&own).map(|found| found.0),
            ps.0.get(&own).map(|found| found.0)
        );
    }
}

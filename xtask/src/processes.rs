//! Processes that a step has started, to their last descendant.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// Ends a process and all that it has started.
pub(crate) fn end_tree(root: u32) {
    let mut tree = vec![root];
    let parents = parents();
    while let Some(found) = next_of(&tree, &parents) {
        tree.push(found);
    }
    let ids = tree.into_iter().filter_map(|id| Pid::from_raw(id.cast_signed()));
    for id in ids {
        // One that is gone by now is what was wanted.
        let _ = kill_process(id, Signal::KILL);
    }
}

fn next_of(tree: &[u32], parents: &[(u32, u32)]) -> Option<u32> {
    let grown = parents
        .iter()
        .find(|(id, parent)| tree.contains(parent) && !tree.contains(id));
    grown.map(|(id, _)| *id)
}

/// Every process with its parent, where the system tells.
fn parents() -> Vec<(u32, u32)> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| {
            let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            // The name stands in parentheses, and may hold any of them itself.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((id, parent))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread, time::Duration};

    #[test]
    fn the_child_of_a_child_is_ended_too() {
        let mut shell = Command::new("sh").args(["-c", "sleep 1000 & wait"]).spawn().unwrap();
        let grandchild = loop {
            let found = super::parents().into_iter().find(|(_, parent)| *parent == shell.id());
            match found {
                Some((id, _)) => break id,
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        super::end_tree(shell.id());
        assert!(!shell.wait().unwrap().success());
        let is_there = || {
            let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
            // An orphan that nobody has waited for yet is as dead.
            stat.is_ok_and(|stat| stat.contains("(sleep)") && !stat.contains(") Z "))
        };
        while is_there() {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

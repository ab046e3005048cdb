//! What other processes take of the processors, as Linux tells it in `/proc`.

use std::{fs, time::Duration};

/// The processes of a server on this machine.
#[derive(Debug)]
pub(crate) struct Processes {
    postmaster: u32,
}

/// What a process's line tells, in clock ticks.
struct Line {
    parent: u32,
    own: u64,
    /// Of children that have ended.
    ended: u64,
}

impl Processes {
    /// Those of the server that one of whose processes serves this connection. None: it is elsewhere.
    pub(crate) fn of_backend(backend: i32) -> Option<Self> {
        let postmaster = line(u32::try_from(backend).ok()?)?.parent;
        // In a container, or on another machine, the number is somebody else's.
        let name = fs::read_to_string(format!("/proc/{postmaster}/comm")).ok()?;
        name.starts_with("postgres").then_some(Self { postmaster })
    }
    /// The time of all of them, those included that have ended.
    pub(crate) fn time(&self) -> Duration {
        let Some(postmaster) = line(self.postmaster) else {
            return Duration::ZERO;
        };
        let running = fs::read_dir("/proc").into_iter().flatten().flatten();
        let of_server = running
            .filter_map(|entry| line(entry.file_name().to_str()?.parse().ok()?))
            .filter(|line| line.parent == self.postmaster);
        let ticks = postmaster.own + postmaster.ended + of_server.map(|line| line.own).sum::<u64>();
        duration(ticks)
    }
}

/// The time of this process's children that have ended, and were waited for.
pub(crate) fn of_ended_children() -> Duration {
    line(std::process::id()).map_or(Duration::ZERO, |line| duration(line.ended))
}

fn duration(ticks: u64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn line(process: u32) -> Option<Line> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in brackets, and may hold some itself.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |n: usize| fields.get(n)?.parse::<u64>().ok();
    Some(Line {
        parent: u32::try_from(number(1)?).ok()?,
        own: number(11)? + number(12)?,
        ended: number(13)? + number(14)?,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_child_counts_when_it_has_ended() {
        let before = of_ended_children();
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let ended = std::process::Command::new("sh").args(["-c", busy]).status().unwrap();
        assert!(ended.success());
        assert!(of_ended_children() > before);
    }

    #[test]
    fn a_process_that_is_no_server_is_not_taken_for_one() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(Processes::of_backend(own).is_none());
    }
}

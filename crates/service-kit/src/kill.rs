//! For crash tests alone (feature `failpoints`): the process kills itself at a named point, as `kill -9` would.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// `SAGAMILL_KILL=log.append.after:3` kills at the third pass; several are separated by commas.
const VARIABLE: &str = "SAGAMILL_KILL";

/// Arms the points that the environment names.
///
/// # Errors
/// What is wrong with the names.
pub fn arm_kill_points() -> Result<(), String> {
    let Ok(points) = std::env::var(VARIABLE) else {
        return Ok(());
    };
    for point in points.split(',').filter(|point| !point.is_empty()) {
        let parsed = point
            .rsplit_once(':')
            .and_then(|(name, pass)| Some((name, pass.parse::<u64>().ok()?)));
        let (name, pass) = parsed.ok_or_else(|| format!("{VARIABLE}: `{point}` is not `name:pass`"))?;
        let passes = AtomicU64::new(0);
        fail::cfg_callback(name, move || {
            if passes.fetch_add(1, Ordering::SeqCst) + 1 == pass {
                die();
            }
        })?;
    }
    Ok(())
}

fn die() -> ! {
    // An abort would run no destructors either, but the parent could tell it from a kill, and a core might be written.
    if kill_process(getpid(), Signal::KILL).is_err() {
        std::process::abort();
    }
    loop {
        std::thread::park();
    }
}

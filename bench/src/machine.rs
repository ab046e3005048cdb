//! What the figures were measured on, said once on standard error.

use std::{fs::File, io::Write as _, path::Path, time::Instant};

/// Flushes that are timed.
const FLUSHES: usize = 100;

/// Says what the machine is, and how long its disk takes to make a page durable.
pub(crate) fn describe(folder: &Path) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?;
    let mut file = File::create(folder.join("flush"))?;
    let mut times = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        file.write_all(&[1; 4_096])?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    eprintln!(
        "{cores} cores, {} on {}, SQLite {}, fdatasync of 4 KiB {:?} (median of {FLUSHES}), databases in {}",
        std::env::consts::ARCH,
        std::env::consts::OS,
        rusqlite::version(),
        times[FLUSHES / 2],
        folder.display()
    );
    Ok(())
}

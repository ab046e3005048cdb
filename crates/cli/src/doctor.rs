//! `doctor`: is the log well, and if not, what to do.

use std::io::Write;

use clap::Args;
use jiff::Timestamp;
use sagamill::eventstore::Health;
use serde::Serialize;

use crate::{
    failure::{Code, Failure},
    output::{ItemFormat, json_line, plain, stdout},
    source::Source,
};

/// Staged events that have waited longer for their positions have nobody who gives them any.
const STAGED_MAX_SECONDS: i64 = 10;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    source: Source,
    /// How it looks.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ItemFormat,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    what: String,
    is: String,
    /// What is wrong with it, and what to do; none: it is well.
    problem: Option<String>,
}

pub(crate) async fn run(options: Options) -> Result<Code, Failure> {
    let store = options.source.open().await?;
    let findings = findings(&store.health().await?, store.now());
    let is_well = findings.iter().all(|finding| finding.problem.is_none());
    let mut out = stdout();
    match options.output {
        ItemFormat::Json => json_line(&mut out, &serde_json::json!({ "well": is_well, "findings": findings }))?,
        ItemFormat::Table => {
            for Finding { what, is, problem } in &findings {
                let mark = if problem.is_none() { '✓' } else { '✗' };
                writeln!(out, "{mark} {}: {}", plain(what), plain(is))?;
                if let Some(problem) = problem {
                    writeln!(out, "    {}", plain(problem))?;
                }
            }
        }
    }
    out.flush()?;
    Ok(if is_well { Code::Success } else { Code::Unverified })
}

fn findings(health: &Health, now: Timestamp) -> Vec<Finding> {
    let mut all = vec![Finding {
        what: health.database.to_owned(),
        is: format!(
            "{}, tables of revision {}, {} events",
            health.version, health.revision, health.head.position
        ),
        problem: None,
    }];
    all.extend(health.settings.iter().map(|setting| Finding {
        what: setting.name.clone(),
        is: setting.value.clone(),
        problem: setting.problem.map(str::to_owned),
    }));
    all.push(staged(health, now));
    all.extend(lock(health, now));
    all.extend(health.subscriptions.iter().map(|lag| {
        let idle = if lag.unowned > 0 {
            format!(", {} of them held by no process", lag.unowned)
        } else {
            String::new()
        };
        Finding {
            what: format!("subscription {}", lag.name),
            is: format!("{} positions behind, {} shards{idle}", lag.positions, lag.shards),
            problem: None,
        }
    }));
    all
}

fn staged(health: &Health, now: Timestamp) -> Finding {
    let staged = &health.staged;
    let age = staged.oldest.map(|oldest| now.duration_since(oldest).as_secs());
    let problem = if staged.failed > 0 {
        Some(format!(
            "{} staged events can have no position and were set aside: look into es.staged_failed",
            staged.failed
        ))
    } else if age.is_some_and(|age| age > STAGED_MAX_SECONDS) {
        Some("nobody gives them positions: start a process that works on this log".to_owned())
    } else {
        None
    };
    let oldest = age.map_or(String::new(), |age| format!(", the first for {age} s"));
    Finding {
        what: "staged events".to_owned(),
        is: format!("{} wait for their positions{oldest}", staged.waiting),
        problem,
    }
}

/// A lock that is held at this moment is nothing by itself; one that others wait for is looked at.
fn lock(health: &Health, now: Timestamp) -> Option<Finding> {
    let lock = health.lock.as_ref()?;
    let held = lock.since.map_or(0, |since| now.duration_since(since).as_secs());
    let is_stuck = held > 1 && lock.waiting > 0;
    let problem = format!(
        "it holds up {} others: if it stays, end it by `SELECT pg_terminate_backend({})`",
        lock.waiting, lock.pid
    );
    Some(Finding {
        what: "lock".to_owned(),
        is: format!(
            "held for {held} s by process {} ({}, {})",
            lock.pid, lock.application, lock.state
        ),
        problem: is_stuck.then_some(problem),
    })
}

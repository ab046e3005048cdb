//! `cargo xtask test`: every step that a change must pass, in the order in which mistakes are cheapest to find.

use std::process::ExitCode;

use sagamill_testkit::has_docker;

use crate::{
    count::Count,
    feature, packages,
    servers::Servers,
    step::{Outcome, Step},
};

/// How long the long tests run in the gate; set a variable to run one longer.
const CRASH: &[(&str, &str)] = &[
    ("SAGAMILL_KILLS", "12"),
    ("SAGAMILL_RANDOM", "3"),
    ("SAGAMILL_PAUSES", "2"),
    ("SAGAMILL_RESTARTS", "2"),
    ("SAGAMILL_CUTS", "4"),
];
const CONTAINERS: &[(&str, &str)] = &[("SAGAMILL_ROUNDS", "1")];
const SIMULATION: &[(&str, &str)] = &[("SAGAMILL_SEEDS", "150")];

fn steps() -> anyhow::Result<Vec<Step>> {
    Ok(vec![
        Step::new("format", "fmt --all --check"),
        Step::new("lint", "clippy --workspace --all-targets --all-features -- -D warnings"),
        Step::new("documentation", "doc --no-deps --workspace").env(&[("RUSTDOCFLAGS", "-Dwarnings")]),
        Step::calls("features", feature::calls()?),
        // Without the feature `failpoints`: the crash test's own step builds its programs with it.
        // No `--all-targets`: it would build the examples as tests, and a test runs one as the program that it is.
        // With the one bus that is off by default, since it compiles a client in C; over TLS too.
        Step::new(
            "tests",
            "test --workspace --features sagamill-cli/kafka-tls --no-fail-fast",
        )
        .env(SIMULATION),
        Step::new("crash", "test --package sagamill-tests --features crash --test crash").env(CRASH),
    ])
}

/// What needs a Docker engine, where one answers.
fn containers() -> Vec<Step> {
    if !has_docker() {
        println!("no Docker engine answers: docker-compose.yml is left out");
        return Vec::new();
    }
    vec![
        Step::new("images", "xtask images"),
        // One after the other: each keeps the whole machine busy.
        Step::new(
            "containers",
            "test --package sagamill-tests --features compose --test compose -- --test-threads 1",
        )
        .env(CONTAINERS),
    ]
}

/// Runs the steps until one fails, then says what ran. Servers come first: what cannot be had is said at once.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let mut steps = steps()?;
    steps.extend(containers());
    packages::openssl()?;
    let servers = Servers::start()?;
    let mut outcomes = vec![Outcome::of("servers", servers.took)];
    for step in steps {
        outcomes.push(step.run(&servers.env)?);
        if outcomes.last().is_some_and(|outcome| !outcome.ok) {
            break;
        }
    }
    report(&outcomes);
    let ok = outcomes.iter().all(|outcome| outcome.ok);
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(outcomes: &[Outcome]) {
    println!();
    let mut total = Count::default();
    for outcome in outcomes {
        total += outcome.count;
        let verdict = if outcome.ok { "ok" } else { "FAILED" };
        print!(
            "{:<14} {verdict:<7} {:>6.1} s",
            outcome.name,
            outcome.took.as_secs_f64()
        );
        if !outcome.count.is_zero() {
            print!("   {}", outcome.count);
        }
        if outcome.count.ignored > 0 {
            print!(", {} ignored", outcome.count.ignored);
        }
        for (name, value) in &outcome.settings {
            print!("   {name}={value}");
        }
        println!();
    }
    println!("\n{total}");
}

//! Feature checks: each library alone, without its default features, and with each feature alone.

use anyhow::{Context as _, ensure};
use sagamill_testkit::cargo;
use serde_json::Value;

/// The packages whose features are chosen by those who depend on them.
const LIBRARIES: [&str; 6] = [
    "sagamill-bus",
    "sagamill-eventstore",
    "sagamill-saga",
    "sagamill",
    "sagamill-cli",
    "sagamill-testkit",
];

/// The cargo calls that lint every library with every feature alone.
pub(crate) fn calls() -> anyhow::Result<Vec<Vec<String>>> {
    let metadata = metadata()?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    let mut calls = Vec::new();
    for library in LIBRARIES {
        let package = packages
            .iter()
            .find(|package| package["name"] == library)
            .with_context(|| format!("no package `{library}` in the workspace"))?;
        calls.push(lint(library, None));
        let features = package["features"]
            .as_object()
            .context("cargo metadata names no features")?;
        let names = features.keys().filter(|name| *name != "default");
        calls.extend(names.map(|name| lint(library, Some(name))));
    }
    Ok(calls)
}

fn lint(package: &str, feature: Option<&str>) -> Vec<String> {
    let mut call = vec!["clippy", "--quiet", "--package", package, "--no-default-features"];
    if let Some(feature) = feature {
        call.extend(["--features", feature]);
    }
    call.extend(["--", "-D", "warnings"]);
    call.into_iter().map(str::to_owned).collect()
}

fn metadata() -> anyhow::Result<Value> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")
}

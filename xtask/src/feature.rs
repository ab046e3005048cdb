//! Feature checks: each library alone, without its default features, and with each feature alone.

use std::{fs, path::Path};

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

/// The cargo calls that lint every library without its features, and with each feature alone that its code looks at: one that
/// is only passed on changes nothing of it.
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
        let manifest = package["manifest_path"]
            .as_str()
            .context("a package without a manifest")?;
        let code = code(&Path::new(manifest).with_file_name("src"))?;
        let features = package["features"]
            .as_object()
            .context("cargo metadata names no features")?;
        let looked_at = features
            .keys()
            .filter(|name| code.contains(&format!("feature = \"{name}\"")));
        calls.extend(looked_at.map(|name| lint(library, Some(name))));
    }
    Ok(calls)
}

/// All Rust code of a folder.
fn code(folder: &Path) -> anyhow::Result<String> {
    let mut code = String::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            code += &self::code(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code += &fs::read_to_string(&path)?;
        }
    }
    Ok(code)
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

#[cfg(test)]
mod tests {
    use super::calls;

    #[test]
    fn each_library_is_checked_alone_and_so_are_features_that_change_it() {
        let calls: Vec<String> = calls().unwrap().iter().map(|call| call.join(" ")).collect();
        let has = |what: &str| {
            calls
                .iter()
                .any(|call| call.ends_with(&format!("{what} -- -D warnings")))
        };
        assert!(has("--package sagamill --no-default-features"));
        assert!(has("--package sagamill-bus --no-default-features --features kafka"));
        assert!(has(
            "--package sagamill-testkit --no-default-features --features rabbitmq"
        ));
        assert!(
            !has("--package sagamill --no-default-features --features kafka"),
            "it is only passed on"
        );
    }
}

//! The programs under test, with their kill points compiled in.

use std::{path::PathBuf, process::Command, sync::LazyLock};

const PACKAGES: [&str; 5] = [
    "sagamill-cli",
    "shop-inventory",
    "shop-order",
    "shop-payment",
    "shop-shipping",
];

/// Built once: the programs of other packages are not built for this test by cargo itself.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut build = sagamill_testkit::cargo();
    build.arg("build").arg("--quiet");
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    let features = PACKAGES.map(|package| format!("{package}/failpoints")).join(",");
    let test = std::env::current_exe().expect("this test is a file");
    let folder = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    if folder.ends_with("release") {
        build.args(["--profile", "bench"]);
    }
    let built = build.args(["--features", &features]).status().expect("cargo starts");
    assert!(built.success(), "the programs cannot be built");
    folder.to_owned()
});

/// The program of this name.
pub(crate) fn program(name: &str) -> Command {
    Command::new(FOLDER.join(name))
}

//! `cargo xtask images`: the images of `docker-compose.yml`, of programs that are built on this host.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, ensure};
use sagamill_testkit::has_docker;

use crate::root;

/// The packages, each with its program.
const PROGRAMS: [(&str, &str); 5] = [
    ("sagamill-cli", "sagamill"),
    ("shop-order", "shop-order"),
    ("shop-inventory", "shop-inventory"),
    ("shop-payment", "shop-payment"),
    ("shop-shipping", "shop-shipping"),
];
/// No image is larger, in bytes.
const LARGEST: u64 = 20_000_000;
/// Where the programs are that go into images, below the workspace.
const CONTEXT: &str = "target/images";

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    ensure!(
        has_docker(),
        "no Docker engine answers: start one, and see `docker version`"
    );
    let target = host()?;
    build(&target)?;
    let context = root().join(CONTEXT);
    fs::create_dir_all(&context)?;
    for (_, program) in PROGRAMS {
        let built = root().join("target").join(&target).join("image").join(program);
        fs::copy(&built, context.join(program)).with_context(|| format!("no program at {}", built.display()))?;
        let image = format!("sagamill/{program}");
        make(&context, program, &image)?;
        let size = size(&image)?;
        println!("{image}: {:.1} MB", size as f64 / 1e6);
        ensure!(size < LARGEST, "{image} is larger than {LARGEST} bytes");
    }
    Ok(ExitCode::SUCCESS)
}

/// Static, since an image has nothing beside its program. For a target that is named, so that what runs in the build is not.
fn build(target: &str) -> anyhow::Result<()> {
    let mut cargo = sagamill_testkit::cargo();
    cargo
        .args(["build", "--profile", "image", "--locked", "--target", target])
        .args(["--features", "sagamill-cli/kafka"])
        .current_dir(root())
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    for (package, _) in PROGRAMS {
        cargo.args(["--package", package]);
    }
    say(&mut cargo)
}

fn make(context: &Path, program: &str, image: &str) -> anyhow::Result<()> {
    let mut docker = Command::new("docker");
    docker
        .args(["build", "--quiet", "--tag", image, "--build-arg"])
        .arg(format!("PROGRAM={program}"))
        .arg("--file")
        .arg(root().join("docker/prebuilt.Dockerfile"))
        .arg(context)
        .stdout(Stdio::null());
    say(&mut docker)
}

fn size(image: &str) -> anyhow::Result<u64> {
    let mut docker = Command::new("docker");
    docker.args(["image", "inspect", "--format", "{{.Size}}", image]);
    let output = docker.output().context("cannot start docker")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .with_context(|| format!("{image} has no size: {text}"))
}

/// The target that rustc builds for where none is named.
fn host() -> anyhow::Result<String> {
    let version = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("cannot start rustc")?;
    let version = String::from_utf8_lossy(&version.stdout);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

fn say(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}

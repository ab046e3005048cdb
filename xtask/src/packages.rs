//! Debian's packages: installed where root asks for what is missing.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, ensure};

/// Debian starts services of packages that it installs, unless a program here says no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Whether packages can be had here without asking anybody.
pub(crate) fn may_install() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists()
}

/// Gets what Kafka over TLS is compiled with, where it is not there.
pub(crate) fn openssl() -> anyhow::Result<()> {
    let is_there = || {
        let asked = Command::new("pkg-config").args(["--exists", "openssl"]).status();
        asked.is_ok_and(|status| status.success())
    };
    if is_there() {
        return Ok(());
    }
    if may_install() {
        install(&["libssl-dev", "pkg-config"])?;
    }
    ensure!(
        is_there(),
        "OpenSSL's development files are missing, with which the feature `kafka-tls` is compiled: \
         apt-get install libssl-dev pkg-config"
    );
    Ok(())
}

/// Installs something of which only the programs are wanted. A policy that is there already is the owner's.
pub(crate) fn without_services(install: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    if Path::new(POLICY).exists() {
        return install();
    }
    fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
    fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
    let installed = install();
    fs::remove_file(POLICY)?;
    installed
}

pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    println!("+ apt-get {}", arguments.join(" "));
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("cannot start apt-get")?;
    ensure!(status.success(), "apt-get {} failed: {status}", arguments.join(" "));
    Ok(())
}

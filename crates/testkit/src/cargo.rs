//! Cargo, for tests that build programs.

use std::process::Command;

/// Cargo as one calls it in a shell. Cargo tells a program that it runs whose program it is (`CARGO_PKG_NAME`, ..); a second
/// cargo that is told so builds packages anew that look at it, and all that depends on them.
#[must_use]
pub fn cargo() -> Command {
    let path = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(path);
    for (name, _) in std::env::vars_os() {
        let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];
        if name
            .to_str()
            .is_some_and(|name| told.iter().any(|told| name.starts_with(told)))
        {
            cargo.env_remove(name);
        }
    }
    cargo
}

//! A database cluster as `initdb` makes it, made once per version and copied from then on: a copy takes a tenth of the time.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::{Error, Result, account::Account, random, supervisor::output};

/// The superuser of all clusters made here.
pub(crate) const SUPERUSER: &str = "postgres";
/// Raise it when what is made changes.
const REVISION: u32 = 1;

/// What a cluster begins as.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    /// The data directory to copy.
    pub(crate) data: PathBuf,
    /// The superuser's password.
    pub(crate) password: String,
}

impl Template {
    /// The template of this version; makes it if nobody has.
    pub(crate) fn get(account: Account, programs: &Path, version: &str) -> Result<Self> {
        let cache = env::temp_dir().join(format!("sagamill-testkit-{}", account.uid));
        account.private_directory(&cache)?;
        let place = cache.join(format!("postgres-{}-{REVISION}", key(programs, version)));
        let path = place.with_added_extension("lock");
        let lock = File::create(&path).map_err(Error::directory(&path))?;
        account.give(&path).map_err(Error::directory(&path))?;
        // Ends with the process at the latest. Whoever waits here finds the template made.
        lock.lock().map_err(Error::directory(&cache))?;
        if !place.exists() {
            make(account, programs, &place)?;
        }
        Self::read(&place)
    }
    fn read(place: &Path) -> Result<Self> {
        let password = fs::read_to_string(place.join("password")).map_err(Error::directory(place))?;
        Ok(Self {
            data: place.join("data"),
            password: password.trim().to_owned(),
        })
    }
}

/// A version and where its programs are, as one name.
fn key(programs: &Path, version: &str) -> String {
    let text = format!("{version}{}", programs.display());
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect()
}

/// Makes it beside its place and moves it there, so that what is in the place is whole.
fn make(account: Account, programs: &Path, place: &Path) -> Result<()> {
    let draft = place.with_added_extension("draft");
    if draft.exists() {
        // Of a process that died over it.
        fs::remove_dir_all(&draft).map_err(Error::directory(&draft))?;
    }
    account.private_directory(&draft)?;
    let password = draft.join("password");
    fs::write(&password, random::password()).map_err(Error::directory(&draft))?;
    account.give(&password).map_err(Error::directory(&draft))?;
    // A collation as databases have it in production, in which text does not sort by its bytes; where a build has none,
    // the plain one.
    let linguistic = ["--locale-provider=icu", "--icu-locale=en-US"];
    if initialize(account, programs, &draft, &linguistic).is_err() {
        initialize(account, programs, &draft, &[])?;
    }
    fs::rename(&draft, place).map_err(Error::directory(place))
}

fn initialize(account: Account, programs: &Path, draft: &Path, locale: &[&str]) -> Result<()> {
    let mut command = account.command(programs.join("initdb"));
    command.args([
        "--username",
        SUPERUSER,
        "--auth=password",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]);
    command.args(locale);
    command
        .arg("--pwfile")
        .arg(draft.join("password"))
        .arg("--pgdata")
        .arg(draft.join("data"));
    output(&mut command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_at_a_place_is_one_name() {
        assert_eq!(
            key(Path::new("/usr/lib/postgresql/15/bin"), "15.18"),
            "15.18-usr-lib-postgresql-15-bin"
        );
    }
}

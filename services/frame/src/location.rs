//! Where a service's database is.

use std::{fmt, path::PathBuf, str::FromStr};

/// A SQLite file, or a database on a PostgreSQL server.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A file, made where it is missing: `sqlite:order.db`, or its path alone.
    File(PathBuf),
    /// `postgres://user@host:port/database`.
    Server(String),
}

impl FromStr for Location {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Server(text.to_owned()));
        }
        let path = text.strip_prefix("sqlite:").unwrap_or(text);
        match path.split_once("://") {
            Some((scheme, _)) => Err(format!(
                "no database for `{scheme}:`; known are `sqlite:FILE` and `postgres://user@host:port/database`"
            )),
            None if path.is_empty() => Err("no file is named".to_owned()),
            None => Ok(Self::File(path.into())),
        }
    }
}

impl Location {
    /// As a store is told of it, password and all.
    pub fn url(&self) -> String {
        match self {
            Self::File(path) => format!("sqlite:{}", path.display()),
            Self::Server(url) => url.clone(),
        }
    }
}

/// Without the password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "sqlite:{}", path.display()),
            Self::Server(url) => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, path) = rest.split_at(end);
                match authority.rsplit_once('@') {
                    Some((who, host)) => {
                        let user = who.split(':').next().unwrap_or_default();
                        write!(f, "{scheme}://{user}@{host}")?;
                    }
                    None => write!(f, "{scheme}://{authority}")?,
                }
                f.write_str(path.split('?').next().unwrap_or_default())
            }
        }
    }
}
impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_a_file_and_url_a_server() {
        let file = |path: &str| Location::File(path.into());
        assert_eq!("order.db".parse(), Ok(file("order.db")));
        assert_eq!("sqlite:/data/order.db".parse(), Ok(file("/data/order.db")));
        let url = "postgres://shop@localhost:5432/order";
        assert_eq!(url.parse(), Ok(Location::Server(url.to_owned())));
        assert!("mysql://localhost/order".parse::<Location>().is_err());
        assert!("sqlite:".parse::<Location>().is_err());
    }

    #[test]
    fn password_is_not_shown() {
        let shown = |url: &str| Location::Server(url.to_owned()).to_string();
        let long = "postgres://shop:se:cr@t@db:5432/order?password=secret";
        assert_eq!(shown(long), "postgres://shop@db:5432/order");
        assert_eq!(shown("postgres://db/order"), "postgres://db/order");
        assert_eq!(shown("postgres://shop:secret@db"), "postgres://shop@db");
    }
}

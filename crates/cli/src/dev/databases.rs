//! Where the shop's databases are: files in a directory, or databases on a server. One process at a time has them.

mod directory;
mod server;

use std::{fmt, path::PathBuf};

use shop_frame::Location;

use crate::{failure::Failure, source::Server};
use directory::Directory;
use server::Reserved;

/// The databases of one shop, kept from other processes as long as this lives.
#[derive(Debug)]
pub(crate) enum Databases {
    Files(Directory),
    Server(Reserved),
}

impl Databases {
    /// In a directory, made where it is missing, or a new temporary one where none is named.
    pub(crate) fn files(wanted: Option<PathBuf>) -> Result<Self, Failure> {
        Directory::open(wanted).map(Self::Files)
    }
    /// On a server, made where they are missing.
    pub(crate) async fn server(server: &Server) -> Result<Self, Failure> {
        Reserved::open(server).await.map(Self::Server)
    }
    /// That of one service.
    pub(crate) fn of(&self, service: &str) -> Location {
        match self {
            Self::Files(directory) => Location::File(directory.path().join(format!("{service}.db"))),
            Self::Server(reserved) => Location::Server(reserved.url(service)),
        }
    }
}

impl fmt::Display for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(directory) => directory.path().display().fmt(f),
            Self::Server(reserved) => reserved.fmt(f),
        }
    }
}

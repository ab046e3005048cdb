//! A connection that reads, with the file in memory while much of it is read at once.

use rusqlite::Connection;

/// Most of the file that is mapped into memory.
const MAPPED: u64 = 256 << 20;

/// What one thread of readers works with.
///
/// A mapped file is read without a copy of each of its pages. But with each commit of another connection SQLite gives the
/// whole mapping up, which every processor of this process is interrupted for: too much for a few rows.
pub(super) struct Reader {
    connection: Connection,
    is_mapped: bool,
}

impl Reader {
    /// Of a connection that maps nothing.
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            is_mapped: false,
        }
    }
    /// To read a few rows.
    pub(super) fn for_rows(&mut self) -> rusqlite::Result<&Connection> {
        self.map(false)
    }
    /// To read a good part of the log.
    pub(super) fn for_scan(&mut self) -> rusqlite::Result<&Connection> {
        self.map(true)
    }
    fn map(&mut self, mapped: bool) -> rusqlite::Result<&Connection> {
        if self.is_mapped != mapped {
            let size = if mapped { MAPPED } else { 0 };
            self.connection.execute_batch(&format!("PRAGMA mmap_size = {size}"))?;
            self.is_mapped = mapped;
        }
        Ok(&self.connection)
    }
}

//! A log in a file in a folder of its own, which stays where its test fails, for whoever looks into it.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use sagamill_eventstore::{
    EventStore, Position,
    conformance::{SqliteFile, Subject},
};
use tempfile::TempDir;

struct InFolder {
    file: SqliteFile,
    folder: Option<TempDir>,
}

pub(crate) fn subject() -> Arc<dyn Subject> {
    let folder = tempfile::tempdir().expect("a directory");
    Arc::new(InFolder {
        file: SqliteFile::within(folder.path()),
        folder: Some(folder),
    })
}

impl Subject for InFolder {
    fn open(&self) -> BoxFuture<'_, EventStore> {
        self.file.open()
    }
    fn lose_tail(&self, after: Position) -> BoxFuture<'_, ()> {
        self.file.lose_tail(after)
    }
}

impl Drop for InFolder {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("the log is in {}", folder.keep().display());
        }
    }
}

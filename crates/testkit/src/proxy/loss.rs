//! An answer that is to be lost.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

/// The longest part of a request that can be looked for.
pub(super) const REQUEST_BYTES_MAX: usize = 1024;

/// An answer that is to be lost: true once it is, false where the proxy or the connection ended before.
///
/// Dropped before the request came, nothing is lost any more.
#[derive(Debug)]
#[must_use = "dropped, nothing is lost; awaited, it shows that something was"]
pub struct Lost(oneshot::Receiver<()>);

/// The proxy's side of it.
#[derive(Debug)]
pub(super) struct Loss {
    /// What the request contains; nothing: any does.
    request: Vec<u8>,
    done: oneshot::Sender<()>,
}

pub(super) fn loss(request: &[u8]) -> (Loss, Lost) {
    assert!(
        request.len() <= REQUEST_BYTES_MAX,
        "at most {REQUEST_BYTES_MAX} bytes of a request are looked for"
    );
    let (done, lost) = oneshot::channel();
    let request = request.to_vec();
    (Loss { request, done }, Lost(lost))
}

impl Loss {
    pub(super) fn is_awaited(&self) -> bool {
        !self.done.is_closed()
    }
    /// Whether what it looks for ends in these new bytes; it may begin in those before.
    pub(super) fn is_meant_by(&self, before: &[u8], new: &[u8]) -> bool {
        let Some(reach) = self.request.len().checked_sub(1) else {
            return true;
        };
        let begin = before.len().saturating_sub(reach);
        let seen = [&before[begin..], new].concat();
        seen.windows(self.request.len()).any(|part| part == self.request)
    }
    pub(super) fn done(self) {
        // Whether anybody waits for it changes nothing.
        let _ = self.done.send(());
    }
}

impl Future for Lost {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        Pin::new(&mut self.0).poll(context).map(|done| done.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_found_across_reads_and_once() {
        let (loss, _lost) = loss(b"COMMIT");
        assert!(loss.is_meant_by(b"", b"Q COMMIT;"));
        assert!(loss.is_meant_by(b"Q COM", b"MIT;"));
        assert!(!loss.is_meant_by(b"Q COMMIT", b";"));
        assert!(!loss.is_meant_by(b"COM", b"IT"));
    }

    #[test]
    fn any_bytes_are_any_request() {
        let (loss, _lost) = loss(b"");
        assert!(loss.is_meant_by(b"", b"x"));
    }
}

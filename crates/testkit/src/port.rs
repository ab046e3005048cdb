//! A port for a server that will be killed and started again on it.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
};

use crate::random;

/// Below the ports that systems give to clients (32768 and up on Linux, 49152 and up elsewhere), above those of services.
///
/// A port out of the clients' range would be given to a client while the server is down; and a client of this machine that
/// tries again and again could be given the very port it connects to, and be connected to itself.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_767;
const TRIES_MAX: u32 = 100;

/// A port of the loopback address that nobody listens on now. Somebody else may be faster: be ready to ask again.
pub(crate) fn free() -> io::Result<u16> {
    for _ in 0..TRIES_MAX {
        let port = FIRST + random::below(LAST - FIRST + 1);
        if is_free(port) {
            return Ok(port);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("no free port in {TRIES_MAX} tries from {FIRST} to {LAST}"),
    ))
}

/// Whether nobody listens there now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_not_free() {
        let port = free().unwrap();
        assert!((FIRST..=LAST).contains(&port));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!is_free(port));
        drop(listener);
        assert!(is_free(port));
    }
}

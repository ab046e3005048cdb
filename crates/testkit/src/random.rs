//! Names and passwords that nobody can guess.

use std::{fs::File, io::Read as _};

/// So many random bytes.
fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .expect("invariant: every Unix has /dev/urandom");
    bytes
}

/// A part of a name: 8 digits.
pub(crate) fn suffix() -> String {
    format!("{:08x}", u32::from_ne_bytes(bytes()))
}

/// A password: 32 digits.
pub(crate) fn password() -> String {
    format!("{:032x}", u128::from_ne_bytes(bytes()))
}

/// A number below a bound.
pub(crate) fn below(bound: u16) -> u16 {
    // The remainder favours small numbers by one in a trillion.
    u16::try_from(u64::from_ne_bytes(bytes()) % u64::from(bound)).expect("invariant: it is below a u16")
}

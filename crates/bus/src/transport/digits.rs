//! Names of headers that a broker cannot carry, or would take for something else: written in the digits of their bytes.

use std::fmt::Write;

/// What stands before the digits. A name of the user's that begins so is written in digits, too.
pub(crate) const NAMED: &str = "sagamill-name-";

pub(crate) fn write(name: &str) -> String {
    let mut digits = NAMED.to_owned();
    for byte in name.bytes() {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// The name that was written so; any other as it is.
pub(crate) fn read(name: &str) -> String {
    let digits = name.strip_prefix(NAMED).map(|digits| {
        let pairs = digits.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        pairs.map(byte).collect::<Option<Vec<u8>>>()
    });
    let read = digits.flatten().and_then(|bytes| String::from_utf8(bytes).ok());
    read.unwrap_or_else(|| name.to_owned())
}

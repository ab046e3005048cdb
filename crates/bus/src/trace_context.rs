//! W3C trace context: `traceparent` is passed on where it is valid, and made where there is none.
//!
//! What is made here is a pure function of the message id, so that a repeat carries the same trace and a simulation the
//! same bytes. A tracing exporter that has a span of its own sets the header before.

use xxhash_rust::xxh3::xxh3_64;

use crate::{Headers, MessageId, headers::name};

/// `00-<32 hex>-<16 hex>-<2 hex>`.
const LENGTH: usize = 55;

/// Leaves a valid `traceparent` as it is; else replaces it by a new one, the root of a trace.
pub(crate) fn ensure(headers: &mut Headers, id: MessageId) {
    if !headers.get(name::TRACEPARENT).is_some_and(is_valid) {
        headers.set(name::TRACEPARENT, root(id));
    }
}

/// The same trace, one span further; a new trace where the parent is malformed.
pub(crate) fn child(parent: &str, id: MessageId) -> String {
    if !is_valid(parent) {
        return root(id);
    }
    format!("00-{}-{:016x}-{}", &parent[3..35], span(id), &parent[53..55])
}

fn root(id: MessageId) -> String {
    // An all-zero trace id is invalid, and a message may have the nil UUID.
    let trace = id.0.as_u128().max(1);
    let mut header = String::with_capacity(LENGTH);
    header.push_str("00-");
    push_hex(&mut header, &trace.to_be_bytes());
    header.push('-');
    push_hex(&mut header, &span(id).to_be_bytes());
    header.push_str("-01");
    header
}

/// Every message that has no trace yet pays for this; `format!` takes several times as long.
fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn span(id: MessageId) -> u64 {
    xxh3_64(id.0.as_bytes()).max(1)
}

/// Whether a header is a `traceparent` this version of the standard reads: lower-case hex, version not `ff`, no zero ids.
/// A later version may append fields.
fn is_valid(header: &str) -> bool {
    let bytes = header.as_bytes();
    let hex = |range: std::ops::Range<usize>| {
        bytes[range]
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |range: std::ops::Range<usize>| bytes[range].iter().all(|&byte| byte == b'0');
    bytes.len() >= LENGTH
        && header.is_ascii()
        && [2, 35, 52].iter().all(|&dash| bytes[dash] == b'-')
        && hex(0..2)
        && hex(3..35)
        && hex(36..52)
        && hex(53..55)
        && &bytes[..2] != b"ff"
        && !zero(3..35)
        && !zero(36..52)
        && (bytes.len() == LENGTH || (&bytes[..2] != b"00" && bytes[LENGTH] == b'-'))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{child, ensure, is_valid};
    use crate::{Headers, MessageId, headers::name};

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_traceparent_passes_unchanged_and_a_malformed_one_is_replaced() {
        let id = MessageId(Uuid::from_u128(7));
        for malformed in [
            "",
            "00",
            "garbage-with-Ünicode-that-is-longer-than-the-fifty-five-bytes-of-a-header",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        ] {
            let mut headers = Headers::from_iter([(name::TRACEPARENT, malformed)]);
            ensure(&mut headers, id);
            let made = headers.get(name::TRACEPARENT).unwrap();
            assert_ne!(made, malformed);
            assert!(is_valid(made), "{made}");
        }
        let mut headers = Headers::from_iter([(name::TRACEPARENT, VALID)]);
        ensure(&mut headers, id);
        assert_eq!(headers.get(name::TRACEPARENT), Some(VALID));
    }

    #[test]
    fn one_is_made_where_there_is_none_and_the_same_again_for_the_same_message() {
        let made = |id| {
            let mut headers = Headers::new();
            ensure(&mut headers, MessageId(id));
            headers.get(name::TRACEPARENT).unwrap().to_owned()
        };
        assert!(is_valid(&made(Uuid::nil())));
        assert!(made(Uuid::from_u128(0xabc)).starts_with("00-00000000000000000000000000000abc-"));
        assert_eq!(made(Uuid::from_u128(7)), made(Uuid::from_u128(7)));
        assert_ne!(made(Uuid::from_u128(7)), made(Uuid::from_u128(8)));
    }

    #[test]
    fn a_child_keeps_the_trace_and_has_its_own_span() {
        let made = child(VALID, MessageId(Uuid::from_u128(7)));
        assert!(is_valid(&made));
        assert_eq!(made[..35], VALID[..35]);
        assert_ne!(made[36..52], VALID[36..52]);
        let later_version = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
        assert!(is_valid(later_version));
        assert!(child(later_version, MessageId(Uuid::from_u128(7))).ends_with("-00"));
    }
}

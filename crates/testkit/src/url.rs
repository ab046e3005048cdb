//! Addresses of servers: `scheme://user:password@host:port/database?options`, or `host:port` alone.

use std::ops::Range;

/// The same server and options with another database.
#[cfg(feature = "postgres")]
pub(crate) fn with_database(url: &str, database: &str) -> String {
    let end = authority(url).end;
    let options = url[end..].find('?').map_or("", |at| &url[end + at..]);
    format!("{}/{database}{options}", &url[..end])
}

/// The same database with another user.
#[cfg(feature = "postgres")]
pub(crate) fn with_user(url: &str, user: &str, password: &str) -> String {
    let Range { start, .. } = authority(url);
    format!("{}{user}:{password}@{}", &url[..start], &url[host_of(url).start..])
}

/// The same with another `host:port`.
#[cfg(feature = "proxy")]
pub(crate) fn with_host(url: &str, host: &str) -> String {
    let Range { start, end } = host_of(url);
    format!("{}{host}{}", &url[..start], &url[end..])
}

/// Its `host:port`.
#[cfg(feature = "proxy")]
pub(crate) fn host(url: &str) -> &str {
    &url[host_of(url)]
}

/// The port of an address that has one.
#[cfg(all(feature = "kafka", feature = "proxy"))]
pub(crate) fn port(url: &str) -> u16 {
    let host = host(url);
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.expect("invariant: what was started here has a port")
}

fn host_of(url: &str) -> Range<usize> {
    let Range { start, end } = authority(url);
    let host = url[start..end].rfind('@').map_or(start, |at| start + at + 1);
    host..end
}

/// What stands between the scheme and the path.
fn authority(url: &str) -> Range<usize> {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
    start..end
}

#[cfg(all(test, feature = "postgres", feature = "proxy"))]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_changes() {
        for (address, with) in [
            (
                "postgres://a:b@h:1/c?sslmode=disable&x=/@",
                [
                    "postgres://a:b@h:1/D?sslmode=disable&x=/@",
                    "postgres://U:P@h:1/c?sslmode=disable&x=/@",
                    "postgres://a:b@H:2/c?sslmode=disable&x=/@",
                ],
            ),
            ("postgres://h", ["postgres://h/D", "postgres://U:P@h", "postgres://H:2"]),
            ("nats://a@h?x", ["nats://a@h/D?x", "nats://U:P@h?x", "nats://a@H:2?x"]),
        ] {
            let changed = [
                with_database(address, "D"),
                with_user(address, "U", "P"),
                with_host(address, "H:2"),
            ];
            assert_eq!(changed, with);
        }
    }

    #[test]
    fn a_host_with_its_port_may_stand_alone() {
        assert_eq!(host("h:1"), "h:1");
        assert_eq!(with_host("h:1", "H:2"), "H:2");
        assert_eq!(host("postgres://a:b@h:1/c"), "h:1");
    }
}

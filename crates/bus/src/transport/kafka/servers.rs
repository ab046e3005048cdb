//! Where brokers are, and how they are spoken to: of a URL and its options.

use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;

use super::{
    link::unusable,
    options::{Mechanism, Options},
};
use crate::{Error, Result};

const WRONG: &str = "the URL is none: write `kafka://user:password@host:9092`, or `kafkas:` for TLS, several hosts with commas; \
                     behind a `?` may stand `mechanism=`, `ca=`, `certificate=` and `key=`, with a `&` between them";

/// Without a debug form, for the password.
pub(super) struct Servers {
    pub(super) hosts: String,
    user: Option<(String, String)>,
    over_tls: bool,
    query: Query,
}

/// What stands behind the `?` of a URL.
#[derive(Default)]
struct Query {
    mechanism: Option<Mechanism>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Servers {
    /// Several are divided by commas. What is wrong with a URL is told without it, for its password.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let wrong = || unusable(WRONG);
        let (scheme, rest) = url.split_once("://").unwrap_or(("kafka", url));
        let (rest, query) = Query::of(rest)?;
        let (user, hosts) = match rest.rsplit_once('@') {
            Some((user, hosts)) => {
                let (name, password) = user.split_once(':').ok_or_else(wrong)?;
                (Some((name.to_owned(), password.to_owned())), hosts)
            }
            None => (None, rest),
        };
        let hosts = hosts.trim_end_matches('/');
        let fits = |host: &str| !host.trim().is_empty() && !host.contains(['/', '?', ' ', '@']);
        if !hosts.split(',').all(fits) {
            return Err(wrong());
        }
        Ok(Self {
            hosts: hosts.to_owned(),
            user,
            over_tls: scheme == "kafkas",
            query,
        })
    }
    /// What every client is made with.
    pub(super) fn config(&self, options: &Options) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        self.sign_in(options, &mut config)?;
        self.encrypt(options, &mut config)?;
        for (name, value) in &options.properties {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &self.hosts)
            .set("client.id", "sagamill")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.timeout.ms", "4000")
            .set("socket.keepalive.enable", "true")
            // Else a small request waits for the answer to the one before, up to 40 ms.
            .set("socket.nagle.disable", "true")
            .set("topic.metadata.propagation.max.ms", "10000");
        Ok(config)
    }
    fn sign_in(&self, options: &Options, config: &mut ClientConfig) -> Result<()> {
        let Some((user, password)) = &self.user else {
            if self.query.mechanism.is_some() {
                return Err(unusable(
                    "the URL says how to sign in, and not who: write `USER:PASSWORD@` before the host",
                ));
            }
            if self.over_tls {
                config.set("security.protocol", "ssl");
            }
            return Ok(());
        };
        let mechanism = self.query.mechanism.unwrap_or(options.mechanism);
        if mechanism != Mechanism::Plain && !cfg!(feature = "kafka-tls") {
            return Err(unusable(format!(
                "`{}` needs the feature `kafka-tls`: cargo add sagamill --features kafka-tls",
                mechanism.name()
            )));
        }
        let protocol = if self.over_tls { "sasl_ssl" } else { "sasl_plaintext" };
        config
            .set("security.protocol", protocol)
            .set("sasl.mechanism", mechanism.name())
            .set("sasl.username", user)
            .set("sasl.password", password);
        Ok(())
    }
    fn encrypt(&self, options: &Options, config: &mut ClientConfig) -> Result<()> {
        if self.over_tls && !cfg!(feature = "kafka-tls") {
            return Err(Error::FeatureOff {
                scheme: "kafkas".to_owned(),
                feature: "kafka-tls",
            });
        }
        let (certificate, key) = options.identity.as_ref().map(|(own, key)| (own, key)).unzip();
        let query = &self.query;
        let files = [
            ("ssl.ca.location", query.ca.as_ref().or(options.ca.as_ref())),
            ("ssl.certificate.location", query.certificate.as_ref().or(certificate)),
            ("ssl.key.location", query.key.as_ref().or(key)),
        ];
        for (name, file) in files {
            match file {
                // Whoever names one takes the connection for encrypted.
                Some(_) if !self.over_tls => {
                    return Err(unusable(
                        "a certificate is named, and nothing is encrypted over `kafka:`: write `kafkas:`",
                    ));
                }
                Some(file) => drop(config.set(name, readable(file)?)),
                None => {}
            }
        }
        Ok(())
    }
}

/// The name of a file that is there: librdkafka would only say that something is wrong.
fn readable(file: &Path) -> Result<String> {
    let name = file.display();
    std::fs::File::open(file).map_err(|error| unusable(format!("`{name}` cannot be read: {error}")))?;
    Ok(name.to_string())
}

impl Query {
    const NAMES: [&str; 4] = ["mechanism", "ca", "certificate", "key"];

    /// The rest without its query. A `?` behind which something else stands is part of what it is in: of a password, perhaps.
    fn of(rest: &str) -> Result<(&str, Self)> {
        let mut query = Self::default();
        let named = rest.rsplit_once('?').and_then(|(before, pairs)| {
            let pairs: Option<Vec<_>> = pairs.split('&').map(|pair| pair.split_once('=')).collect();
            let pairs = pairs.filter(|pairs| pairs.iter().all(|(name, _)| Self::NAMES.contains(name)));
            pairs.map(|pairs| (before, pairs))
        });
        let Some((before, pairs)) = named else {
            return Ok((rest, query));
        };
        for (name, value) in pairs {
            match name {
                "mechanism" => query.mechanism = Some(mechanism(value)?),
                "ca" => query.ca = Some(value.into()),
                "certificate" => query.certificate = Some(value.into()),
                _ => query.key = Some(value.into()),
            }
        }
        Ok((before, query))
    }
}

fn mechanism(name: &str) -> Result<Mechanism> {
    let mut all = Mechanism::ALL.into_iter();
    let found = all.find(|mechanism| mechanism.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let names = Mechanism::ALL.map(Mechanism::name).join(", ");
        unusable(format!("the URL asks for `mechanism={name}`: there are {names}"))
    })
}

#[cfg(test)]
mod tests {
    use super::{Mechanism, Options, Servers};

    fn config(url: &str) -> rdkafka::ClientConfig {
        Servers::parse(url).unwrap().config(&Options::new(url)).unwrap()
    }

    #[test]
    fn a_url_has_hosts_and_perhaps_a_user() {
        let servers = Servers::parse("kafka://a:1,b:2/").unwrap();
        assert_eq!((servers.hosts.as_str(), servers.user), ("a:1,b:2", None));
        let servers = Servers::parse("kafka://u:p@ss?w@a:1").unwrap();
        assert_eq!(servers.hosts, "a:1");
        assert_eq!(servers.user, Some(("u".to_owned(), "p@ss?w".to_owned())));
    }

    #[test]
    fn nothing_is_encrypted_and_nobody_signs_in_unless_the_url_says_so() {
        assert_eq!(config("kafka://a:1").get("security.protocol"), None);
        let plain = config("kafka://u:w@a:1");
        assert_eq!(plain.get("security.protocol"), Some("sasl_plaintext"));
        assert_eq!(plain.get("sasl.mechanism"), Some("PLAIN"));
    }

    #[test]
    fn what_a_url_asks_for_and_would_not_get_is_refused() {
        for (url, why) in [
            ("kafka://a:1?ca=/etc/ca.pem", "kafkas:"),
            ("kafka://a:1?certificate=/c.pem&key=/k.pem", "kafkas:"),
            ("kafka://a:1?mechanism=PLAIN", "USER:PASSWORD@"),
        ] {
            let error = Servers::parse(url).unwrap().config(&Options::new(url)).unwrap_err();
            let words = crate::error::chain(&error);
            assert!(words.contains(why), "{url}: {words}");
        }
    }

    #[test]
    #[cfg(feature = "kafka-tls")]
    fn a_url_says_how_to_sign_in_and_whom_to_believe() {
        let ca = file!();
        let at = std::env::current_dir().unwrap().ancestors().nth(2).unwrap().join(ca);
        let url = format!("kafkas://u:w@a:1,b:2?mechanism=scram-sha-512&ca={}", at.display());
        let config = config(&url);
        assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(config.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(config.get("ssl.ca.location"), at.to_str());
        assert_eq!(config.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(super::Mechanism::default(), Mechanism::Plain);
        let nowhere = "kafkas://a:1?ca=/nowhere/ca.pem";
        let error = Servers::parse(nowhere)
            .unwrap()
            .config(&Options::new(nowhere))
            .unwrap_err();
        assert!(crate::error::chain(&error).contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    #[cfg(not(feature = "kafka-tls"))]
    fn what_this_build_leaves_out_names_its_feature() {
        for url in ["kafkas://a:1", "kafka://u:w@a:1?mechanism=SCRAM-SHA-256"] {
            let error = Servers::parse(url).unwrap().config(&Options::new(url)).unwrap_err();
            assert!(crate::error::chain(&error).contains("kafka-tls"), "{error}");
        }
        assert_eq!(Mechanism::default(), Mechanism::Plain);
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        for url in [
            "kafka://",
            "kafka://secret@a:1",
            "kafka://u:secret@",
            "kafka://u:secret@a/b",
            "kafka://u:secret@a?mechansim=PLAIN",
            "kafka://u:secret@a?mechanism=NTLM",
        ] {
            let error = Servers::parse(url).err().unwrap();
            assert!(!crate::error::chain(&error).contains("secret"), "{url}");
        }
    }
}

//! Authentication schemes: which are offered, what their ids look like, whom they match, and what
//! an auth packet proves.
//! Not here: connections, and the schemes' handshakes (SASL, TLS).

use super::Identity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha512};
use std::net::{IpAddr, Ipv6Addr};

/// Hash behind digest ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DigestAlgorithm {
    #[default]
    Sha1,
    Sha256,
    Sha512,
}

/// What a server offers, from its configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schemes {
    /// `skipACL`: nobody is checked.
    pub skip_acl: bool,
    pub digest: bool,
    pub digest_algorithm: DigestAlgorithm,
    /// The digest id that is the superuser's.
    pub super_digest: Option<Box<str>>,
    pub sasl: bool,
    /// `letAnySaslUserDoX`: an ACL id that matches every sasl id.
    pub sasl_anybody: Option<Box<str>>,
    pub x509: bool,
    pub x509_superuser: Option<Box<str>>,
    /// Names of this ensemble, if the scheme `ensemble` is offered.
    pub ensemble_names: Vec<Box<str>>,
}

impl Default for Schemes {
    fn default() -> Schemes {
        Schemes {
            skip_acl: false,
            digest: true,
            digest_algorithm: DigestAlgorithm::Sha1,
            super_digest: None,
            sasl: false,
            sasl_anybody: None,
            x509: false,
            x509_superuser: None,
            ensemble_names: Vec::new(),
        }
    }
}

impl Schemes {
    /// Has a provider: its ids may stand in ACLs.
    pub fn offers(&self, scheme: &str) -> bool {
        match scheme {
            "ip" => true,
            "digest" => self.digest,
            "sasl" => self.sasl,
            "x509" => self.x509,
            "ensemble" => !self.ensemble_names.is_empty(),
            _ => false,
        }
    }

    /// Its ids prove who somebody is, so the ACL scheme `auth` stands for them.
    pub fn is_authenticated(&self, scheme: &str) -> bool {
        matches!(scheme, "digest" | "sasl" | "x509") && self.offers(scheme)
    }

    /// `id` may stand in an ACL under `scheme`, which is offered.
    pub fn accepts(&self, scheme: &str, id: &str) -> bool {
        match scheme {
            "ip" => Network::parse(id).is_some(),
            "digest" => id.trim_end_matches(':').split(':').count() == 2,
            "sasl" => is_kerberos_name(id),
            "x509" => is_distinguished_name(id),
            "ensemble" => true,
            _ => false,
        }
    }

    /// A connection's id is one an ACL entry of the same scheme, with id `wanted`, means.
    pub fn matches(&self, id: &Identity, wanted: &str) -> bool {
        match &*id.scheme {
            "ip" => {
                let both = Network::parse(wanted).zip(Network::parse(&id.id));
                both.is_some_and(|(network, address)| network.contains(&address))
            }
            "digest" => self.digest && *id.id == *wanted,
            "sasl" => {
                let anybody = self.sasl_anybody.as_deref() == Some(wanted);
                self.sasl && (*id.id == *wanted || &*id.id == "super" || anybody)
            }
            "x509" => self.x509 && (*id.id == *wanted || self.x509_superuser.as_deref() == Some(&*id.id)),
            "ensemble" => self.offers("ensemble"),
            _ => false,
        }
    }

    /// What an auth packet adds to a connection's ids; `None` is -115 and the connection closes.
    pub fn authenticate(
        &self,
        scheme: Option<&str>,
        packet: Option<&[u8]>,
        remote: IpAddr,
    ) -> Option<Vec<Identity>> {
        match scheme? {
            "ip" => Some(vec![ip_identity(remote)]),
            "digest" if self.digest => {
                let id = digest_id(packet?, self.digest_algorithm);
                let is_super = self.super_digest.as_deref() == Some(&*id);
                let mut ids = vec![Identity { scheme: "digest".into(), id: id.into() }];
                ids.extend(is_super.then(|| Identity::new("super", "")));
                Some(ids)
            }
            "ensemble" if self.offers("ensemble") => {
                // A client that names no ensemble is taken; one that names another has gone astray.
                let name = packet.unwrap_or_default();
                let ours = self.ensemble_names.iter().any(|ours| ours.as_bytes() == name);
                (name.is_empty() || ours).then(Vec::new)
            }
            _ => None,
        }
    }

    /// How whoAmI shows an id: without a digest's hash, and nothing for a scheme that has no provider.
    pub fn display_name<'a>(&self, id: &'a Identity) -> &'a str {
        match &*id.scheme {
            scheme if !self.offers(scheme) => "",
            "digest" => id.id.split(':').next().unwrap_or_default(),
            _ => &id.id,
        }
    }
}

/// `user:` and the Base64 of the hash of the whole `user:password`. Any bytes do; without a `:` all of it is the user.
pub fn digest_id(packet: &[u8], algorithm: DigestAlgorithm) -> String {
    let text = String::from_utf8_lossy(packet);
    let hash = match algorithm {
        DigestAlgorithm::Sha1 => STANDARD.encode(Sha1::digest(text.as_bytes())),
        DigestAlgorithm::Sha256 => STANDARD.encode(Sha256::digest(text.as_bytes())),
        DigestAlgorithm::Sha512 => STANDARD.encode(Sha512::digest(text.as_bytes())),
    };
    let user = text.split(':').next().unwrap_or_default();
    format!("{user}:{hash}")
}

/// The id every connection starts with.
pub fn ip_identity(remote: IpAddr) -> Identity {
    Identity { scheme: "ip".into(), id: ip_text(remote).into() }
}

/// An address as Java prints it: IPv6 uncompressed (`0:0:0:0:0:0:0:1`), IPv4 in IPv6 as the IPv4 it is.
pub fn ip_text(remote: IpAddr) -> String {
    match remote.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => v6.segments().map(|segment| format!("{segment:x}")).join(":"),
    }
}

/// An ACL id of scheme `ip`: an address, and of how many bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: [u8; 16],
    /// Bytes of it: 4 or 16.
    width: u8,
    bits: u8,
}

impl Network {
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address_bytes(address)?, Some(bits.parse::<i32>().ok()?)),
            None => (address_bytes(text)?, None),
        };
        let width = address.len();
        let bits = bits.map_or(Some(width * 8), |bits| usize::try_from(bits).ok())?;
        let mut padded = [0; 16];
        padded[..width].copy_from_slice(&address);
        (bits <= width * 8).then_some(Network { address: padded, width: width as u8, bits: bits as u8 })
    }

    /// Whether the other's address is one of these.
    pub fn contains(&self, other: &Network) -> bool {
        let masked = |network: &Network| {
            u128::from_be_bytes(network.address) & !u128::MAX.checked_shr(self.bits.into()).unwrap_or(0)
        };
        self.width == other.width && masked(self) == masked(other)
    }
}

/// 4 or 16 bytes. Dotted quads are read number by number, as Java does: leading zeros are fine.
fn address_bytes(text: &str) -> Option<Vec<u8>> {
    if text.contains(':') {
        // Not `::ffff:1.2.3.4`: Apache knows hexadecimal groups only.
        return (!text.contains('.')).then(|| text.parse::<Ipv6Addr>())?.ok().map(|v6| v6.octets().to_vec());
    }
    let parts: Option<Vec<u8>> =
        text.split('.').map(|part| part.parse::<i32>().ok().and_then(|part| part.try_into().ok())).collect();
    parts.filter(|parts| parts.len() == 4)
}

/// `name[/host]@realm`, or anything without an `@`.
fn is_kerberos_name(id: &str) -> bool {
    let Some((principal, realm)) = id.split_once('@') else { return true };
    !realm.contains(['@', '/']) && principal.matches('/').count() <= 1
}

/// Comma-separated `key=value`, a backslash taking the next character as it is.
fn is_distinguished_name(id: &str) -> bool {
    let mut escaped = false;
    let mut quoted = false;
    id.split(|c| {
        let separator = matches!(c, ',' | ';' | '+') && !escaped && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        separator
    })
    .all(|part| part.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_ids_are_apaches() {
        let id = digest_id(b"super:admin", DigestAlgorithm::Sha1);
        assert_eq!(id, "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=");
        assert!(digest_id(b"nocolon", DigestAlgorithm::Sha1).starts_with("nocolon:"));
        assert!(digest_id(b"a:b:c", DigestAlgorithm::Sha256).starts_with("a:"));
        assert!(digest_id(b"\xff", DigestAlgorithm::Sha512).starts_with("\u{fffd}:"));
    }

    #[test]
    fn auth_packets() {
        let remote: IpAddr = "::1".parse().unwrap();
        let id = digest_id(b"super:admin", DigestAlgorithm::Sha1);
        let schemes = Schemes {
            super_digest: Some(id.as_str().into()),
            ensemble_names: vec!["east".into()],
            ..Schemes::default()
        };
        let check = |scheme: Option<&str>, packet: Option<&[u8]>, expected: Option<&[(&str, &str)]>| {
            let expected: Option<Vec<_>> =
                expected.map(|ids| ids.iter().map(|(scheme, id)| Identity::new(scheme, id)).collect());
            assert_eq!(schemes.authenticate(scheme, packet, remote), expected, "{scheme:?}");
        };
        check(Some("digest"), Some(b"super:admin"), Some(&[("digest", &id), ("super", "")]));
        check(Some("digest"), None, None);
        check(Some("ip"), Some(b"anything"), Some(&[("ip", "0:0:0:0:0:0:0:1")]));
        check(Some("ensemble"), Some(b"east"), Some(&[]));
        check(Some("ensemble"), Some(b"west"), None);
        for scheme in [None, Some("sasl"), Some("world"), Some("super"), Some("")] {
            check(scheme, Some(b"x"), None);
        }
    }

    #[test]
    fn addresses_as_java_prints_them() {
        let check = |address: &str, text: &str| assert_eq!(ip_text(address.parse().unwrap()), text);
        check("10.1.2.3", "10.1.2.3");
        check("::1", "0:0:0:0:0:0:0:1");
        check("2001:db8::a0b", "2001:db8:0:0:0:0:0:a0b");
        check("::ffff:10.1.2.3", "10.1.2.3");
    }

    #[test]
    fn ids_an_acl_may_name() {
        let schemes = Schemes { sasl: true, x509: true, ..Schemes::default() };
        let check = |scheme: &str, fine: &[&str], bad: &[&str]| {
            for id in fine {
                assert!(schemes.accepts(scheme, id), "{scheme} {id}");
            }
            for id in bad {
                assert!(!schemes.accepts(scheme, id), "{scheme} {id}");
            }
        };
        check("digest", &["a:b", ":b", "a:b:", "a:b::"], &["a", "a:", "a:b:c", "", ":", "a::b"]);
        check(
            "ip",
            &[
                "1.2.3.4",
                "1.2.3.4/0",
                "1.2.3.4/32",
                "1.2.3.4/+8",
                "01.+2.-0.4",
                "::",
                "::1/128",
                "2001:db8::/32",
                "::0001",
                "::FFFF",
                "1:2:3:4:5:6:7:8",
                "1:2:3:4:5:6:7::",
            ],
            &[
                "1.2.3",
                "1.2.3.4/33",
                "1.2.3.256",
                "1.2.3.4/",
                "1.2.3.4/8/9",
                "::/129",
                "",
                "x",
                "1.2.3.4/-1",
                "1.2.3.-4",
            ],
        );
        check("sasl", &["bob", "bob@R", "bob/host@R", "a/b/c"], &["a@b@c", "a/b/c@R", "a@b/c"]);
        check("x509", &["CN=a,O=b", "CN=a\\,b"], &["bob", "=a", "CN=a,b"]);
    }

    #[test]
    fn networks() {
        let schemes = Schemes::default();
        let check = |wanted: &str, address: &str, expected: bool| {
            assert_eq!(
                schemes.matches(&Identity::new("ip", address), wanted),
                expected,
                "{wanted} {address}"
            );
        };
        check("10.1.2.3", "10.1.2.3", true);
        check("10.1.2.3", "10.1.2.4", false);
        check("10.1.2.99/25", "10.1.2.3", true);
        check("10.1.2.129/25", "10.1.2.3", false);
        check("0.0.0.0/0", "10.1.2.3", true);
        check("::/0", "10.1.2.3", false);
        check("2001:db8::/33", "2001:db8:7fff:0:0:0:0:1", true);
        check("2001:db8::/33", "2001:db8:8000:0:0:0:0:1", false);
        check("::1", "0:0:0:0:0:0:0:1", true);
    }

    #[test]
    fn other_matches() {
        let schemes = Schemes {
            sasl: true,
            sasl_anybody: Some("any".into()),
            x509: true,
            x509_superuser: Some("CN=root".into()),
            ..Schemes::default()
        };
        let check = |scheme: &str, id: &str, wanted: &str, expected: bool| {
            assert_eq!(
                schemes.matches(&Identity::new(scheme, id), wanted),
                expected,
                "{scheme} {id} {wanted}"
            );
        };
        check("sasl", "bob", "bob", true);
        check("sasl", "bob", "eve", false);
        check("sasl", "bob", "any", true);
        check("sasl", "super", "eve", true);
        check("x509", "CN=root", "CN=a", true);
        check("x509", "CN=a", "CN=b", false);
        check("digest", "a:b", "a:b", true);
        check("key", "a", "a", false);
    }

    #[test]
    fn who_am_i() {
        let schemes = Schemes::default();
        let check = |scheme: &str, id: &str, shown: &str| {
            assert_eq!(schemes.display_name(&Identity::new(scheme, id)), shown);
        };
        check("digest", "bob:hash", "bob");
        check("ip", "10.0.0.1", "10.0.0.1");
        check("super", "", "");
        check("sasl", "bob", "");
    }
}

//! What the forwarder is told: servers by name and by suffix, and what they may say. Opens nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use model::Name;
use model::name::BadName;
use rustls::pki_types::ServerName;

use super::limits::CACHE_BYTES;

const PORT: u16 = 53;
const PORT_TLS: u16 = 853;
const PORT_HTTPS: u16 = 443;
/// Where servers of RFC 8484 answer where nothing else is said (its section 4.1.1, and every public one).
const PATH: &str = "/dns-query";

/// The settings of a forwarder.
#[derive(Debug, Clone, Default)]
pub struct ForwardConfig {
    /// Servers. Those without a suffix take the place of the machine's own.
    pub upstreams: Vec<Rule>,
    /// Names, with all below them, whose answers may lead to private addresses.
    pub rebind_allow: Vec<Name>,
    /// Whether the case of names is chosen at random towards plain servers, so that answers are harder to forge. Some
    /// servers and middle boxes cannot bear it.
    pub mixed_case: bool,
    /// Memory of the cache.
    pub cache: CacheBytes,
    /// Authorities besides the public ones that may vouch for encrypted servers [PEM], one at least.
    pub authorities: Option<Vec<u8>>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheBytes(pub usize);

impl Default for CacheBytes {
    fn default() -> Self {
        Self(CACHE_BYTES)
    }
}

/// Who is asked about which names: `[SUFFIX=]SERVER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The names: this one and all below it. `None`: all that no other rule is about.
    pub suffix: Option<Name>,
    /// Whom to ask.
    pub target: Target,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By datagram, and over TCP what does not fit: `ADDRESS[:PORT]`.
    Plain(SocketAddr),
    /// Over TLS (RFC 7858): `tls://ADDRESS[:PORT][#NAME]`.
    Tls(SocketAddr, ServerName<'static>),
    /// Over HTTPS (RFC 8484): `https://ADDRESS[:PORT][/PATH][#NAME]`.
    Https {
        /// Where it is.
        address: SocketAddr,
        /// The name in its certificate.
        name: ServerName<'static>,
        /// The path of its URL.
        path: String,
    },
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    /// Before the `=`.
    #[error("{0:?} is no domain")]
    Suffix(String, #[source] BadName),
    /// A name where an address is needed: to resolve it we would have to ask ourselves.
    #[error(
        "{0:?} is no address; a server is ADDRESS, tls://ADDRESS#NAME or https://ADDRESS/dns-query#NAME, as in \
         tls://9.9.9.9#dns.quad9.net"
    )]
    Address(String),
    /// An address that means no machine, or many.
    #[error("{0} is no server's address")]
    NoServer(IpAddr),
    /// After `://`.
    #[error("{0:?} is not spoken here; plain, tls:// and https:// are")]
    Scheme(String),
    /// After the `#`.
    #[error("{0:?} is no name of a server")]
    ServerName(String),
    /// A plain server proves no name.
    #[error("{0:?} has a name, which only tls:// and https:// can check")]
    NameUnchecked(String),
    /// A URL with IPv6 needs the server's name.
    #[error("{0:?} needs the server's name, as in https://[2620:fe::fe]/dns-query#dns.quad9.net")]
    NameMissing(String),
    /// A path only makes sense with HTTPS, and has no spaces.
    #[error("{0:?} is no path of https://")]
    Path(String),
}

impl FromStr for Rule {
    type Err = BadRule;
    fn from_str(text: &str) -> Result<Self, BadRule> {
        // A path may hold a `=`, a suffix no `:` or `/`.
        let (suffix, target) = match text.split_once('=') {
            Some((suffix, target)) if !suffix.contains([':', '/']) => (Some(suffix.trim()), target.trim()),
            _ => (None, text.trim()),
        };
        let suffix = suffix.filter(|suffix| *suffix != ".").map(|suffix| {
            suffix.trim_start_matches("*.").parse().map_err(|error| BadRule::Suffix(suffix.into(), error))
        });
        Ok(Self { suffix: suffix.transpose()?, target: target.parse()? })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.suffix {
            Some(suffix) => write!(f, "{suffix}={}", self.target),
            None => self.target.fmt(f),
        }
    }
}

impl FromStr for Target {
    type Err = BadRule;
    fn from_str(text: &str) -> Result<Self, BadRule> {
        let (place, name) = match text.split_once('#') {
            Some((place, name)) => (place, Some(name)),
            None => (text, None),
        };
        match place.split_once("://") {
            None if name.is_some() => Err(BadRule::NameUnchecked(text.into())),
            None => Ok(Self::Plain(address(place, PORT)?)),
            Some(("tls", place)) => {
                let address = address(place, PORT_TLS)?;
                Ok(Self::Tls(address, server_name(name, address)?))
            }
            Some(("https", place)) => {
                let (place, path) = match place.find('/') {
                    Some(at) => place.split_at(at),
                    None => (place, PATH),
                };
                let address = address(place, PORT_HTTPS)?;
                if name.is_none() && address.is_ipv6() {
                    return Err(BadRule::NameMissing(text.into()));
                }
                if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(BadRule::Path(path.into()));
                }
                Ok(Self::Https { address, name: server_name(name, address)?, path: path.into() })
            }
            Some((scheme, _)) => Err(BadRule::Scheme(scheme.into())),
        }
    }
}

/// `ADDRESS`, `ADDRESS:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT`.
fn address(text: &str, port: u16) -> Result<SocketAddr, BadRule> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)).or_else(|_| text.parse());
    let address = parsed.map_err(|_| BadRule::Address(text.into()))?;
    let ip = address.ip();
    if ip.is_unspecified() || ip.is_multicast() || address.port() == 0 {
        return Err(BadRule::NoServer(ip));
    }
    Ok(address)
}

/// Without a name, the certificate has to hold the address.
fn server_name(name: Option<&str>, address: SocketAddr) -> Result<ServerName<'static>, BadRule> {
    match name {
        None => Ok(ServerName::IpAddress(address.ip().into())),
        Some(name) => ServerName::try_from(name.to_owned()).map_err(|_| BadRule::ServerName(name.into())),
    }
}

impl Target {
    /// Where it is.
    pub const fn address(&self) -> SocketAddr {
        match self {
            Self::Plain(address) | Self::Tls(address, _) | Self::Https { address, .. } => *address,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |port: u16| match self.address() {
            address if address.port() != port => address.to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
            SocketAddr::V4(address) => address.ip().to_string(),
        };
        let name = |f: &mut fmt::Formatter<'_>, name: &ServerName<'_>| match name {
            ServerName::DnsName(name) => write!(f, "#{}", name.as_ref()),
            _ => Ok(()),
        };
        match self {
            Self::Plain(address) if address.port() == PORT => address.ip().fmt(f),
            Self::Plain(address) => address.fmt(f),
            Self::Tls(_, server) => {
                write!(f, "tls://{}", place(PORT_TLS))?;
                name(f, server)
            }
            Self::Https { name: server, path, .. } => {
                write!(f, "https://{}{path}", place(PORT_HTTPS))?;
                name(f, server)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_they_print() {
        let check = |text: &str, printed: &str| {
            let rule: Rule = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(rule.to_string(), printed);
            assert_eq!(printed.parse(), Ok(rule));
        };
        check("10.0.0.53", "10.0.0.53");
        check("10.0.0.53:5353", "10.0.0.53:5353");
        check("fd00::53", "fd00::53");
        check("[fd00::53]", "fd00::53");
        check("[fd00::53]:54", "[fd00::53]:54");
        check("Corp.Example = 10.0.0.53", "corp.example=10.0.0.53");
        check("*.corp.example=10.0.0.53:53", "corp.example=10.0.0.53");
        check(".=10.0.0.53", "10.0.0.53");
        check("tls://9.9.9.9#dns.quad9.net", "tls://9.9.9.9#dns.quad9.net");
        check("tls://9.9.9.9", "tls://9.9.9.9");
        check("tls://[2620:fe::fe]:8853", "tls://[2620:fe::fe]:8853");
        check("https://9.9.9.9", "https://9.9.9.9/dns-query");
        check(
            "corp.example=https://[2620:fe::fe]/q?a=b#dns.quad9.net",
            "corp.example=https://[2620:fe::fe]/q?a=b#dns.quad9.net",
        );
        check("https://9.9.9.9:8443/q?a=b#dns.quad9.net", "https://9.9.9.9:8443/q?a=b#dns.quad9.net");
    }

    #[test]
    fn a_refusal_says_what_to_write() {
        let check = |text: &str, said: &str| {
            let error = text.parse::<Rule>().expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        };
        check("dns.quad9.net", "tls://9.9.9.9#dns.quad9.net");
        check("https://dns.quad9.net/dns-query", "is no address");
        check("", "is no address");
        check("a b=10.0.0.53", "is no domain");
        check("=10.0.0.53", "is no domain");
        check("0.0.0.0", "no server's address");
        check("ff02::fb", "no server's address");
        check("10.0.0.53:0", "no server's address");
        check("quic://9.9.9.9", "not spoken here");
        check("9.9.9.9#dns.quad9.net", "only tls:// and https://");
        check("tls://9.9.9.9#a b", "no name of a server");
        check("https://[2620:fe::fe]/dns-query", "needs the server's name");
        check("https://9.9.9.9/a b", "is no path");
        check("tls://9.9.9.9/path", "is no address");
    }
}

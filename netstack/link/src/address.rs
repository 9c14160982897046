//! Where a server is, as people write it. Resolves nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use model::EndpointHost;

/// HTTPS, and QUIC on the same number.
const PORT_DEFAULT: u16 = 443;

/// The text names no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a server is https://HOST or https://HOST:PORT, without a path")]
pub struct BadServerAddress;

/// A host and the port on which it serves HTTPS over TCP and QUIC over UDP. Reads and prints as a URL (RFC 3986); the
/// scheme may be left out, and the port is 443 then too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerAddress {
    /// An address, or a name that the machine's own resolver knows.
    pub host: EndpointHost,
    /// TCP and UDP port, not 0.
    pub port: u16,
}

impl ServerAddress {
    /// The host as TLS names it (RFC 6066, section 3): no brackets, no port.
    pub fn host_text(&self) -> String {
        match &self.host {
            EndpointHost::Address(ip) => ip.to_string(),
            EndpointHost::Name(name) => name.to_string(),
        }
    }

    /// The host and port as HTTP names them (RFC 9110, section 7.2).
    pub fn authority(&self) -> String {
        match &self.host {
            EndpointHost::Address(ip) => SocketAddr::new(*ip, self.port).to_string(),
            EndpointHost::Name(name) => format!("{name}:{}", self.port),
        }
    }
}

impl From<SocketAddr> for ServerAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: EndpointHost::Address(address.ip()), port: address.port() }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl FromStr for ServerAddress {
    type Err = BadServerAddress;
    fn from_str(text: &str) -> Result<Self, BadServerAddress> {
        let text = text.trim();
        let rest = match text.split_once("://") {
            Some(("https", rest)) => rest,
            Some(_) => return Err(BadServerAddress),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_port(rest).ok_or(BadServerAddress)?;
        if port == 0 {
            return Err(BadServerAddress);
        }
        let unbracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match (unbracketed, host.parse::<IpAddr>()) {
            (Some(inner), _) => {
                EndpointHost::Address(IpAddr::V6(inner.parse().map_err(|_| BadServerAddress)?))
            }
            (None, Ok(ip)) => EndpointHost::Address(ip),
            (None, Err(_)) => EndpointHost::Name(host.parse().map_err(|_| BadServerAddress)?),
        };
        Ok(Self { host, port })
    }
}

fn split_port(text: &str) -> Option<(&str, u16)> {
    match text.rsplit_once(':') {
        Some((host, _)) if text.ends_with(']') || host.contains(':') && !host.ends_with(']') => {
            Some((text, PORT_DEFAULT))
        }
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((text, PORT_DEFAULT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_urls() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(
                text.parse::<ServerAddress>().ok().map(|a| a.to_string()).as_deref(),
                expect,
                "{text}"
            );
        };
        check("https://vpn.example.org", Some("https://vpn.example.org:443"));
        check(" https://vpn.example.org:8443/\n", Some("https://vpn.example.org:8443"));
        check("vpn.example.org:8443", Some("https://vpn.example.org:8443"));
        check("localhost", Some("https://localhost:443"));
        check("192.0.2.1", Some("https://192.0.2.1:443"));
        check("https://[2001:db8::1]:8443", Some("https://[2001:db8::1]:8443"));
        check("[2001:db8::1]", Some("https://[2001:db8::1]:443"));
        check("2001:db8::1", Some("https://[2001:db8::1]:443"));
        for bad in [
            "",
            "https://",
            "http://a",
            "https://a/path",
            "a:0",
            "a:70000",
            "a b",
            "https://[::1",
            "u@a",
            "[192.0.2.1]:1",
        ] {
            check(bad, None);
        }
    }
}

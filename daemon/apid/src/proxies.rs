//! Proxies that end TLS in front of the server: whose word on a client's address is believed. Anybody else's headers are not
//! read.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;
use model::wire::Channel;

/// The networks of `--trusted-proxy`.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Believes these.
    pub const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// The client behind a connection, and what ties a link to it. Behind a proxy that is the last address which the
    /// proxies did not add themselves, read from the right (MDN, "X-Forwarded-For"), and no exporter: TLS is not the
    /// client's.
    pub fn client(
        &self,
        address: SocketAddr,
        channel: Channel,
        headers: &HeaderMap,
    ) -> (SocketAddr, Channel) {
        if !self.believes(address.ip()) {
            return (address, channel);
        }
        let values: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .map(|value| value.to_str().unwrap_or_default())
            .collect();
        let hops =
            values.iter().flat_map(|value| value.split(',')).rev().map(|hop| hop.trim().parse::<IpAddr>());
        let mut client = address;
        for hop in hops {
            // What stands left of a hop that cannot be read, or that is no proxy of ours, is the client's own writing.
            let Ok(hop) = hop else { break };
            client = SocketAddr::new(hop, 0);
            if !self.believes(hop) {
                break;
            }
        }
        (client, Channel::Proxied)
    }

    /// Whether it is one of them.
    pub fn believes(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address.to_canonical()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_proxy_is_believed() {
        let proxies = Proxies::new(vec!["10.0.0.0/24".parse().expect("a network")]);
        let exporter = Channel::Exporter([7; 32]);
        let check = |from: &str, header: Option<&str>, expect: (&str, Channel)| {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("x-forwarded-for", header.parse().expect("a value"));
            }
            let (client, channel) = proxies.client(from.parse().expect("an address"), exporter, &headers);
            assert_eq!((client.ip().to_string().as_str(), channel), expect, "{from} {header:?}");
        };
        check("192.0.2.1:1", Some("198.51.100.1"), ("192.0.2.1", exporter));
        check("10.0.0.1:1", Some("198.51.100.1"), ("198.51.100.1", Channel::Proxied));
        check("10.0.0.1:1", Some("203.0.113.9, 198.51.100.1, 10.0.0.2"), ("198.51.100.1", Channel::Proxied));
        check("10.0.0.1:1", None, ("10.0.0.1", Channel::Proxied));
        check("10.0.0.1:1", Some("nonsense"), ("10.0.0.1", Channel::Proxied));
        check("10.0.0.1:1", Some("8.8.8.8, x, 198.51.100.1"), ("198.51.100.1", Channel::Proxied));
        check("10.0.0.1:1", Some("8.8.8.8, x, 10.0.0.2"), ("10.0.0.2", Channel::Proxied));
    }
}

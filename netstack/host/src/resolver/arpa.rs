//! Networks as the reverse zones that cover them (RFC 1035, section 3.5; RFC 3596, section 2.5), and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The zones of a network. One between two octets (or hex digits) takes several, 128 at most.
pub(crate) fn zones(net: IpNet) -> Vec<String> {
    match net {
        IpNet::V4(net) => {
            let length = net.prefix_len().next_multiple_of(8);
            let subnets = net.subnets(length).into_iter().flatten();
            subnets.map(|n| zone_v4(n.network(), usize::from(length / 8))).collect()
        }
        IpNet::V6(net) => {
            let length = net.prefix_len().next_multiple_of(4);
            let subnets = net.subnets(length).into_iter().flatten();
            subnets.map(|n| zone_v6(n.network(), usize::from(length / 4))).collect()
        }
    }
}

fn zone_v4(address: Ipv4Addr, octets: usize) -> String {
    let mut zone: String = address.octets()[..octets].iter().rev().map(|octet| format!("{octet}.")).collect();
    zone.push_str("in-addr.arpa");
    zone
}

fn zone_v6(address: Ipv6Addr, digits: usize) -> String {
    let hex = format!("{:032x}", u128::from(address));
    let mut zone: String = hex[..digits].chars().rev().flat_map(|digit| [digit, '.']).collect();
    zone.push_str("ip6.arpa");
    zone
}

/// The networks that zones cover, neighbours joined, IPv4 first. Other names are passed over.
pub(crate) fn nets<'a>(zones: impl Iterator<Item = &'a str>) -> Vec<IpNet> {
    IpNet::aggregate(&zones.filter_map(net).collect())
}

fn net(zone: &str) -> Option<IpNet> {
    if let Some(octets) = zone.strip_suffix(".in-addr.arpa") {
        let octets: Vec<u8> = octets.split('.').rev().map(|o| o.parse().ok()).collect::<Option<_>>()?;
        let mut address = [0; 4];
        address.get_mut(..octets.len())?.copy_from_slice(&octets);
        return Ipv4Net::new(address.into(), u8::try_from(octets.len() * 8).ok()?).ok().map(IpNet::V4);
    }
    let digits: String = zone.strip_suffix(".ip6.arpa")?.split('.').rev().collect();
    let length = u8::try_from(digits.len() * 4).ok().filter(|l| *l <= 128)?;
    let address = u128::from_str_radix(&format!("{digits:0<32}"), 16).ok()?;
    let net = Ipv6Net::new(address.into(), length).ok()?;
    Some(IpNet::V6(net)).filter(|n| matches!(n.addr(), IpAddr::V6(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_become_zones_and_come_back() {
        let check = |nets_in: &[&str], zones_out: &[&str]| {
            let parsed: Vec<IpNet> = nets_in.iter().map(|n| n.parse().unwrap()).collect();
            let all: Vec<String> = parsed.iter().flat_map(|n| zones(*n)).collect();
            if !zones_out.is_empty() {
                assert_eq!(all, zones_out);
            }
            assert_eq!(nets(all.iter().map(String::as_str)), parsed);
        };
        check(&["100.64.0.0/16"], &["64.100.in-addr.arpa"]);
        check(
            &["100.64.0.0/16", "fd12:3456:789a::/48"],
            &["64.100.in-addr.arpa", "a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa"],
        );
        check(&["10.0.0.0/23"], &["0.0.10.in-addr.arpa", "1.0.10.in-addr.arpa"]);
        check(&["100.64.0.0/10"], &[]);
        check(&["192.0.2.8/29"], &[]);
    }

    #[test]
    fn other_names_are_no_networks() {
        for bad in
            ["home.internal", "in-addr.arpa", "300.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "xyz.ip6.arpa"]
        {
            assert_eq!(net(bad), None, "{bad}");
        }
    }
}

//! Which addresses a name may lead to: a name that strangers own may not lead into the mesh, the site or this machine
//! (DNS rebinding). Asks nobody.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use model::Name;

use super::local::{Place, Places};
use super::question::{suffixes, wire_name};

/// Names in wire form; each stands for all below it too, whether or not it begins with `*.`.
#[derive(Debug, Clone, Default)]
pub(super) struct Suffixes(BTreeSet<Box<[u8]>>);

impl Suffixes {
    pub(super) fn contain(&self, name: &[u8]) -> bool {
        !self.0.is_empty() && suffixes(name).any(|suffix| self.0.contains(suffix))
    }
}

impl<'a> FromIterator<&'a Name> for Suffixes {
    fn from_iter<T: IntoIterator<Item = &'a Name>>(names: T) -> Self {
        Self(names.into_iter().map(|name| without_stars(&wire_name(name)).into()).collect())
    }
}

/// The name behind `*.`. A star alone stays one: nobody means all names by it.
fn without_stars(name: &[u8]) -> &[u8] {
    match name.strip_prefix(b"\x01*") {
        Some(rest) if rest != b"\x00" => without_stars(rest),
        _ => name,
    }
}

/// The rules.
#[derive(Debug, Clone, Default)]
pub(super) struct Policy {
    /// Of the mesh: no foreign name leads there.
    pub(super) blocks: Vec<IpNet>,
    /// The operator trusts these names.
    pub(super) allowed: Suffixes,
    /// The network says that these are its own: they may lead to private addresses, though not into the mesh.
    pub(super) of_site: Suffixes,
}

/// How far a name may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Anywhere.
    Everywhere,
    /// To the site and the world.
    Site,
    /// To the world.
    World,
}

impl Policy {
    /// How far a name may lead that no server was configured for.
    pub(super) fn reach(&self, name: &[u8], places: &Places) -> Reach {
        let single = suffixes(name).count() <= 2;
        if self.allowed.contain(name) {
            Reach::Everywhere
        } else if single || self.of_site.contain(name) || matches!(places.of(name), Some(Place::Site(_))) {
            // Nobody can own the others: they are not in the public tree.
            Reach::Site
        } else {
            Reach::World
        }
    }

    /// Whether a name of this reach may not lead to the address.
    pub(super) fn forbids(&self, reach: Reach, address: IpAddr) -> bool {
        let address = embedded(address);
        match reach {
            Reach::Everywhere => false,
            Reach::Site => self.is_ours(address),
            Reach::World => self.is_ours(address) || is_private(address),
        }
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        let is_this_machine = match address {
            IpAddr::V4(four) => four.is_loopback() || four.octets()[0] == 0,
            IpAddr::V6(six) => six.is_loopback() || six.is_unspecified(),
        };
        is_this_machine || self.blocks.iter().any(|block| block.contains(&address))
    }
}

/// Whether only a site has the address: RFC 1918, RFC 3927, RFC 4193, RFC 4291 (section 2.5.6), and the site-local
/// addresses of old.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.is_private() || four.is_link_local(),
        IpAddr::V6(six) => {
            six.is_unique_local() || six.is_unicast_link_local() || six.segments()[0] & 0xffc0 == 0xfec0
        }
    }
}

/// The IPv4 address in an IPv6 address that leads to it: mapped (RFC 4291) or by NAT64 (RFC 6052).
fn embedded(address: IpAddr) -> IpAddr {
    const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];
    match address.to_canonical() {
        IpAddr::V6(six) if six.segments()[..6] == NAT64 => low_half(six).into(),
        other => other,
    }
}

fn low_half(six: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = six.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let names = |texts: &[&str]| {
            let names: Vec<Name> = texts.iter().map(|text| text.parse().unwrap()).collect();
            names.iter().collect::<Suffixes>()
        };
        Policy {
            blocks: vec!["100.64.0.0/16".parse().unwrap(), "fd12:3456:789a::/48".parse().unwrap()],
            allowed: names(&["plex.direct", "*.starred.example", "*"]),
            of_site: names(&["lan.example.org"]),
        }
    }

    #[test]
    fn a_name_leads_as_far_as_its_owner_is_trusted() {
        let check = |name: &str, reach: Reach| {
            let wire = wire_name(&name.parse().unwrap());
            assert_eq!(policy().reach(&wire, &Places::new()), reach, "{name}");
        };
        check("a.b.plex.direct", Reach::Everywhere);
        check("notplex.direct", Reach::World);
        check("a.b.starred.example", Reach::Everywhere);
        check("notstarred.example", Reach::World);
        check("nas.lan.example.org", Reach::Site);
        check("example.org", Reach::World);
        check("printer", Reach::Site);
        check("printer.home.arpa", Reach::Site);
        check("db.corp.internal", Reach::Site);
    }

    #[test]
    fn strangers_lead_only_into_the_world() {
        let check = |address: &str, expect: [bool; 3]| {
            let address = address.parse().unwrap();
            let forbidden =
                [Reach::Everywhere, Reach::Site, Reach::World].map(|reach| policy().forbids(reach, address));
            assert_eq!(forbidden, expect, "{address}");
        };
        for world in ["192.0.2.1", "8.8.8.8", "2001:db8::1", "100.65.0.1", "172.32.0.1", "64:ff9b::808:808"] {
            check(world, [false, false, false]);
        }
        for site in ["10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "fd00::1", "fe80::1", "fec0::1"]
        {
            check(site, [false, false, true]);
        }
        for ours in ["100.64.3.4", "fd12:3456:789a::5", "127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::"] {
            check(ours, [false, true, true]);
        }
        check("::ffff:10.0.0.1", [false, false, true]);
        check("64:ff9b::7f00:1", [false, true, true]);
    }
}

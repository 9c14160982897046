//! Where a name stands in the reverse tree (RFC 1035, section 3.5; RFC 3596, section 2.5) of a tenant's block.
//! Knows no record.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::Block;
#[cfg(feature = "forward")]
use model::Name;

use crate::wire::Sought;

/// What a name in the reverse tree stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The longest whole octets or nibbles that hold the block: where its SOA is.
    Apex,
    /// Between the apex and the addresses. It exists, though it has no record.
    Between,
    /// An address of the block.
    Address(IpAddr),
    /// Below the apex, but the name of no address.
    Nowhere,
}

/// The place and how many labels the apex has. `None` if the name is not of this block.
pub(crate) fn place(name: &Sought, block: &Block) -> Option<(Place, usize)> {
    let units = name.labels().checked_sub(2)?;
    if name.label(units + 1) != b"arpa" {
        return None;
    }
    match name.label(units) {
        b"in-addr" => FOUR.place(name, units, IpNet::V4(block.v4())),
        b"ip6" => SIX.place(name, units, IpNet::V6(block.v6())),
        _ => None,
    }
}

/// The names under which the addresses of a net stand, and no others: one if it ends with a whole octet or nibble.
#[cfg(feature = "forward")]
pub(crate) fn names(net: &IpNet) -> Vec<Name> {
    let unit_bits = if net.addr().is_ipv4() { FOUR.unit_bits } else { SIX.unit_bits };
    let whole = net.prefix_len().next_multiple_of(unit_bits);
    let nets = net.subnets(whole).expect("neither shorter than the net nor longer than an address");
    nets.map(|net| name(&net)).collect()
}

/// The name of a net of whole octets or nibbles.
#[cfg(feature = "forward")]
fn name(net: &IpNet) -> Name {
    let (units, root): (Vec<String>, _) = match net.network() {
        IpAddr::V4(four) => (four.octets().iter().map(u8::to_string).collect(), "in-addr.arpa"),
        IpAddr::V6(six) => {
            let nibbles = six.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            (nibbles.map(|nibble| format!("{nibble:x}")).collect(), "ip6.arpa")
        }
    };
    let count = units.len() * usize::from(net.prefix_len()) / usize::from(net.max_prefix_len());
    let labels = units[..count].iter().rev().map(String::as_str).chain([root]);
    labels.collect::<Vec<_>>().join(".").parse().expect("numbers below a name")
}

/// How one family writes addresses in the reverse tree.
struct Family {
    unit_bits: u8,
    units: usize,
    parse: fn(&[u8]) -> Option<u8>,
    net: fn(&[u8]) -> IpNet,
}

const FOUR: Family = Family { unit_bits: 8, units: 4, parse: octet, net: net_of_octets };
const SIX: Family = Family { unit_bits: 4, units: 32, parse: nibble, net: net_of_nibbles };
/// Nibbles of an IPv6 address.
const UNITS_MAX: usize = 32;

impl Family {
    /// The first so many labels of the name are units, if they are any.
    fn place(&self, name: &Sought, labels: usize, block: IpNet) -> Option<(Place, usize)> {
        let mut units = [0; UNITS_MAX];
        let parsed = (0..labels).rev().take(self.units).map_while(|at| (self.parse)(name.label(at)));
        let count = units.iter_mut().zip(parsed).map(|(unit, parsed)| *unit = parsed).count();
        let apex = usize::from(block.prefix_len() / self.unit_bits);
        let net = (self.net)(&units[..count]);
        if count < apex || !(net.contains(&block) || block.contains(&net)) {
            return None;
        }
        let place = if count < labels {
            Place::Nowhere
        } else if count == self.units {
            Place::Address(net.addr())
        } else if count == apex {
            Place::Apex
        } else {
            Place::Between
        };
        Some((place, apex + 2))
    }
}

/// A decimal number without leading zeros: `01` names nothing.
fn octet(label: &[u8]) -> Option<u8> {
    if label.len() > 1 && label[0] == b'0' {
        return None;
    }
    label.iter().try_fold(0_u8, |number, byte| {
        let digit = char::from(*byte).to_digit(10).and_then(|digit| u8::try_from(digit).ok())?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn nibble(label: &[u8]) -> Option<u8> {
    let &[digit] = label else { return None };
    char::from(digit).to_digit(16).and_then(|number| u8::try_from(number).ok())
}

fn net_of_octets(units: &[u8]) -> IpNet {
    let mut octets = [0; 4];
    octets[..units.len()].copy_from_slice(units);
    let length = u8::try_from(units.len() * 8).expect("four octets at most");
    IpNet::V4(Ipv4Net::new(Ipv4Addr::from(octets), length).expect("32 bits at most"))
}

fn net_of_nibbles(units: &[u8]) -> IpNet {
    let bits = units.iter().zip((0..128).step_by(4)).map(|(&unit, at)| u128::from(unit) << (124 - at));
    let length = u8::try_from(units.len() * 4).expect("32 nibbles at most");
    IpNet::V6(Ipv6Net::new(Ipv6Addr::from(bits.sum::<u128>()), length).expect("128 bits at most"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::of_name;
    use model::Name;

    fn check(block: &str, name: &str, expect: Option<(Place, usize)>) {
        let v6 = "fd12:3456:789a::/48".parse().expect("a net");
        let block = Block::from_nets(block.parse().expect("a net"), v6).expect("a block");
        let sought = Sought::of_wire(&of_name(&name.parse::<Name>().expect("a name")));
        assert_eq!(place(&sought, &block), expect, "{name} in {block:?}");
    }

    #[test]
    fn an_aligned_block_is_a_zone() {
        let check = |name, expect| check("100.64.0.0/16", name, expect);
        check("64.100.in-addr.arpa", Some((Place::Apex, 4)));
        check("7.64.100.in-addr.arpa", Some((Place::Between, 4)));
        let address = IpAddr::from([100, 64, 7, 9]);
        check("9.7.64.100.in-addr.arpa", Some((Place::Address(address), 4)));
        check("x.9.7.64.100.in-addr.arpa", Some((Place::Nowhere, 4)));
        check("09.7.64.100.in-addr.arpa", Some((Place::Nowhere, 4)));
        check("256.7.64.100.in-addr.arpa", Some((Place::Nowhere, 4)));
        check("x.64.100.in-addr.arpa", Some((Place::Nowhere, 4)));
        for foreign in
            ["65.100.in-addr.arpa", "100.in-addr.arpa", "in-addr.arpa", "arpa", "x.100.in-addr.arpa"]
        {
            check(foreign, None);
        }
        check("1.0.65.100.in-addr.arpa", None);
    }

    #[test]
    fn an_unaligned_block_is_served_from_the_octet_above() {
        let check = |name, expect| check("10.1.16.0/20", name, expect);
        check("1.10.in-addr.arpa", Some((Place::Apex, 4)));
        check("16.1.10.in-addr.arpa", Some((Place::Between, 4)));
        check("1.31.1.10.in-addr.arpa", Some((Place::Address(IpAddr::from([10, 1, 31, 1])), 4)));
        check("1.32.1.10.in-addr.arpa", None);
        check("32.1.10.in-addr.arpa", None);
    }

    #[test]
    fn ip6_goes_by_nibbles() {
        let check = |name: &str, expect| check("100.64.0.0/16", name, expect);
        let apex = "a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa";
        check(apex, Some((Place::Apex, 14)));
        check(&format!("0.{apex}"), Some((Place::Between, 14)));
        let address = "fd12:3456:789a::2f".parse().expect("an address");
        let zeros = "0.".repeat(18);
        check(&format!("f.2.{zeros}{apex}"), Some((Place::Address(address), 14)));
        check(&format!("1.f.2.{zeros}{apex}"), Some((Place::Nowhere, 14)));
        check(&format!("g.2.{zeros}{apex}"), Some((Place::Nowhere, 14)));
        check("9.8.7.6.5.4.3.2.1.d.f.ip6.arpa", None);
        check("b.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa", None);
    }

    #[test]
    #[cfg(feature = "forward")]
    fn a_net_has_the_names_of_its_addresses_and_no_others() {
        let check = |net: &str, expect: &[&str]| {
            let names = names(&net.parse().expect("a net"));
            assert_eq!(names.iter().map(Name::as_str).collect::<Vec<_>>(), expect, "{net}");
        };
        check("100.64.0.0/16", &["64.100.in-addr.arpa"]);
        check(
            "10.1.16.0/22",
            &["16.1.10", "17.1.10", "18.1.10", "19.1.10"]
                .map(|name| format!("{name}.in-addr.arpa"))
                .each_ref()
                .map(String::as_str),
        );
        check("10.1.2.3/32", &["3.2.1.10.in-addr.arpa"]);
        check("fd12:3456:789a::/48", &["a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa"]);
        check(
            "fd12:3456:789a::/47",
            &["a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa", "b.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa"],
        );
    }
}

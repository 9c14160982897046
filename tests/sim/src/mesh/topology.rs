//! What a seed stands for: which hosts are behind which NATs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::nat::{Filters, Firewall, Maps, Nat, Rules};
use super::network::{CARRIES_ALL, CARRIES_LITTLE, Host, INTERNET, Network, Router};
use crate::dice::Dice;

/// A network with so many hosts, which are behind anything from nothing to two NATs.
pub fn network(hosts: usize, dice: &mut Dice) -> Network {
    let mut network = Network::default();
    let mut segments = INTERNET + 1;
    // A provider's NAT, which homes may be behind.
    let provider = dice.chance(400).then(|| add_router(&mut network, &mut segments, INTERNET, dice));
    for _ in 0..hosts {
        let host = place(&mut network, &mut segments, provider, dice);
        network.hosts.push(host);
    }
    network
}

/// A host at some place of the network, perhaps beside another.
pub fn place(network: &mut Network, segments: &mut usize, provider: Option<usize>, dice: &mut Dice) -> Host {
    let number = u8::try_from(network.hosts.len()).expect("a few hosts");
    let public = IpAddr::from(Ipv4Addr::new(198, 51, 100, 1 + number));
    let inside = IpAddr::from(Ipv4Addr::new(192, 168, 1, 2 + number));
    let homes: Vec<usize> =
        network.routers.iter().map(|r| r.inside).filter(|segment| Some(*segment) != provider).collect();
    let (segment, v4) = match dice.below(10) {
        0 | 1 => (INTERNET, public),
        2 | 3 if !homes.is_empty() => (homes[dice.below(homes.len())], inside),
        4 | 5 if provider.is_some() => {
            let outside = provider.unwrap_or(INTERNET);
            (add_router(network, segments, outside, dice), inside)
        }
        _ => (add_router(network, segments, INTERNET, dice), inside),
    };
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2 + u16::from(number));
    let has_v6 = dice.chance(300);
    Host {
        segment,
        v4: Some(v4),
        v6: has_v6.then(|| v6.into()),
        firewall: (has_v6 || dice.chance(300)).then(Firewall::default),
        blocked: dice.chance(80),
        carries: if dice.chance(80) { CARRIES_LITTLE } else { CARRIES_ALL },
    }
}

fn add_router(network: &mut Network, segments: &mut usize, outside: usize, dice: &mut Dice) -> usize {
    let inside = *segments;
    *segments += 1;
    let number = u8::try_from(network.routers.len()).expect("a few routers");
    let external = match outside {
        INTERNET => Ipv4Addr::new(203, 0, 113, 10 + number),
        _ => Ipv4Addr::new(100, 64, 0, 10 + number),
    };
    let maps = if dice.chance(300) { Maps::PerRemote } else { Maps::Once };
    let filters = match maps {
        Maps::PerRemote => Filters::Ports,
        Maps::Once => [Filters::Nobody, Filters::Addresses, Filters::Ports, Filters::Ports][dice.below(4)],
    };
    let expiry = Duration::from_secs([30, 60, 120, 300][dice.below(4)]);
    let stride = [0, 0, 1, 2][dice.below(4)];
    let rules = Rules { maps, stride, crowd: 0, filters, hairpin: dice.chance(400), expiry };
    network.routers.push(Router { nat: Nat::new(rules, external.into()), inside, outside });
    inside
}

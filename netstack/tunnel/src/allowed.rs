//! Which peer an address belongs to: the longest allowed network that contains it. Knows no packet.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// Allowed networks, each with the one peer that has it.
pub(crate) struct AllowedIps<P> {
    v4: PrefixMap<Ipv4Net, P>,
    v6: PrefixMap<Ipv6Net, P>,
}

impl<P> AllowedIps<P> {
    pub(crate) fn new() -> Self {
        Self { v4: PrefixMap::new(), v6: PrefixMap::new() }
    }

    /// Gives the network to a peer and returns the peer that had it.
    pub(crate) fn insert(&mut self, net: IpNet, peer: P) -> Option<P> {
        match net {
            IpNet::V4(net) => self.v4.insert(net.trunc(), peer),
            IpNet::V6(net) => self.v6.insert(net.trunc(), peer),
        }
    }

    /// Takes the network away and returns the peer that had it.
    pub(crate) fn remove(&mut self, net: IpNet) -> Option<P> {
        match net {
            IpNet::V4(net) => self.v4.remove(&net.trunc()),
            IpNet::V6(net) => self.v6.remove(&net.trunc()),
        }
    }

    /// The peer with the longest network around the address.
    pub(crate) fn lookup(&self, address: IpAddr) -> Option<&P> {
        match address {
            IpAddr::V4(a) => self.v4.get_lpm(&Ipv4Net::from(a)).map(|(_, peer)| peer),
            IpAddr::V6(a) => self.v6.get_lpm(&Ipv6Net::from(a)).map(|(_, peer)| peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// Few distinct bits, so that networks nest and collide often.
    fn net() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| {
            let address = Ipv4Addr::from(0x0a00_0000 | (bits & 0x0003_0003));
            IpNet::V4(Ipv4Net::new(address, length).expect("a length up to 32"))
        });
        let v6 = (any::<u128>(), 0u8..=128).prop_map(|(bits, length)| {
            let address = Ipv6Addr::from((0xfd00 << 112) | (bits & ((3 << 64) | 3)));
            IpNet::V6(Ipv6Net::new(address, length).expect("a length up to 128"))
        });
        prop_oneof![v4, v6]
    }

    fn scan(entries: &BTreeMap<IpNet, u32>, address: IpAddr) -> Option<u32> {
        let around = entries.iter().filter(|(net, _)| net.contains(&address));
        around.max_by_key(|(net, _)| net.prefix_len()).map(|(_, peer)| *peer)
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_a_linear_scan(
            edits in prop::collection::vec((any::<bool>(), net(), 0u32..8), 0..60),
            probes in prop::collection::vec(net(), 1..40),
        ) {
            let (mut trie, mut list) = (AllowedIps::new(), BTreeMap::new());
            for (insert, net, peer) in edits {
                if insert {
                    prop_assert_eq!(trie.insert(net, peer), list.insert(net.trunc(), peer));
                } else {
                    prop_assert_eq!(trie.remove(net), list.remove(&net.trunc()));
                }
                for probe in &probes {
                    prop_assert_eq!(trie.lookup(probe.addr()).copied(), scan(&list, probe.addr()));
                }
            }
        }
    }
}

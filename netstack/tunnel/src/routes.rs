//! Which peer an address belongs to: the longest network around it. A copy costs one reference count and stays as it
//! is while the original is edited. Knows no packet.
//!
//! A radix trie whose nodes are shared between copies: an edit copies the nodes on its way that somebody else holds
//! too, at most one for every bit of the network, and edits the others in place.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// Networks, each with what it leads to.
#[derive(Debug, Clone)]
pub(crate) struct Routes<P> {
    v4: Link<u32, P>,
    v6: Link<u128, P>,
}

impl<P> Default for Routes<P> {
    fn default() -> Self {
        Self { v4: None, v6: None }
    }
}

impl<P: Clone> Routes<P> {
    /// No network at all.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Lets the network lead to `to` and returns what it led to. Bits beyond its length count for nothing.
    pub(crate) fn insert(&mut self, net: IpNet, to: P) -> Option<P> {
        match net {
            IpNet::V4(net) => insert(&mut self.v4, Prefix::new(net.addr().to_bits(), net.prefix_len()), to),
            IpNet::V6(net) => insert(&mut self.v6, Prefix::new(net.addr().to_bits(), net.prefix_len()), to),
        }
    }

    /// Takes the network away and returns what it led to.
    pub(crate) fn remove(&mut self, net: IpNet) -> Option<P> {
        match net {
            IpNet::V4(net) => remove(&mut self.v4, Prefix::new(net.addr().to_bits(), net.prefix_len())),
            IpNet::V6(net) => remove(&mut self.v6, Prefix::new(net.addr().to_bits(), net.prefix_len())),
        }
    }
}

impl<P> Routes<P> {
    /// What the longest network around the address leads to.
    pub(crate) fn lookup(&self, address: IpAddr) -> Option<&P> {
        match address {
            IpAddr::V4(address) => longest(&self.v4, address.to_bits()),
            IpAddr::V6(address) => longest(&self.v6, address.to_bits()),
        }
    }
}

/// An address as a number, its first bit the highest.
trait Bits: Copy + Eq {
    const WIDTH: u8;
    /// The first `length` bits; the others are zero.
    fn first(self, length: u8) -> Self;
    /// 0 or 1. `at` is less than the width.
    fn bit(self, at: u8) -> usize;
    /// How many of the first bits are alike.
    fn alike(self, other: Self) -> u8;
}

macro_rules! bits {
    ($number:ty) => {
        impl Bits for $number {
            const WIDTH: u8 = {
                assert!(<$number>::BITS <= 128);
                <$number>::BITS as u8
            };

            fn first(self, length: u8) -> Self {
                self & !<$number>::MAX.checked_shr(u32::from(length)).unwrap_or(0)
            }

            fn bit(self, at: u8) -> usize {
                usize::from((self >> (Self::WIDTH - 1 - at)) & 1 != 0)
            }

            fn alike(self, other: Self) -> u8 {
                u8::try_from((self ^ other).leading_zeros()).expect("at most the width, 128")
            }
        }
    };
}

bits!(u32);
bits!(u128);

/// The first `length` bits of an address; the others are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prefix<B> {
    bits: B,
    length: u8,
}

impl<B: Bits> Prefix<B> {
    fn new(bits: B, length: u8) -> Self {
        Self { bits: bits.first(length), length }
    }

    /// How long the longest prefix around both is.
    fn shared(self, other: Self) -> u8 {
        self.bits.alike(other.bits).min(self.length).min(other.length)
    }
}

type Link<B, P> = Option<Arc<Node<B, P>>>;

/// A network, or the place where two part: every node has a value or two children.
#[derive(Debug, Clone)]
struct Node<B, P> {
    prefix: Prefix<B>,
    value: Option<P>,
    /// Longer prefixes that go on with 0 and with 1.
    children: [Link<B, P>; 2],
}

impl<B, P> Node<B, P> {
    fn leaf(prefix: Prefix<B>, value: P) -> Link<B, P> {
        Some(Arc::new(Self { prefix, value: Some(value), children: [None, None] }))
    }
}

fn insert<B: Bits, P: Clone>(link: &mut Link<B, P>, net: Prefix<B>, value: P) -> Option<P> {
    let Some(node) = link else {
        *link = Node::leaf(net, value);
        return None;
    };
    let shared = node.prefix.shared(net);
    if shared == node.prefix.length {
        let node = Arc::make_mut(node);
        if shared == net.length {
            return node.value.replace(value);
        }
        return insert(&mut node.children[net.bits.bit(shared)], net, value);
    }
    let mut parting = Node { prefix: Prefix::new(net.bits, shared), value: None, children: [None, None] };
    let old = node.prefix.bits.bit(shared);
    parting.children[old] = link.take();
    if shared == net.length {
        parting.value = Some(value);
    } else {
        parting.children[net.bits.bit(shared)] = Node::leaf(net, value);
    }
    *link = Some(Arc::new(parting));
    None
}

fn remove<B: Bits, P: Clone>(link: &mut Link<B, P>, net: Prefix<B>) -> Option<P> {
    // Nodes are not copied for nothing.
    exact(link, net)?;
    take(link, net)
}

/// As [`remove`], of a network that is there.
fn take<B: Bits, P: Clone>(link: &mut Link<B, P>, net: Prefix<B>) -> Option<P> {
    let node = Arc::make_mut(link.as_mut()?);
    let taken = if node.prefix == net {
        node.value.take()
    } else {
        take(&mut node.children[net.bits.bit(node.prefix.length)], net)
    };
    if node.value.is_none() {
        match &mut node.children {
            [Some(_), Some(_)] => {}
            [only, None] | [None, only] => *link = only.take(),
        }
    }
    taken
}

fn exact<B: Bits, P>(link: &Link<B, P>, net: Prefix<B>) -> Option<&P> {
    let mut at = link.as_deref();
    while let Some(node) = at {
        if node.prefix == net {
            return node.value.as_ref();
        }
        if node.prefix.length >= net.length || node.prefix.shared(net) < node.prefix.length {
            return None;
        }
        at = node.children[net.bits.bit(node.prefix.length)].as_deref();
    }
    None
}

fn longest<B: Bits, P>(link: &Link<B, P>, address: B) -> Option<&P> {
    let (mut at, mut best) = (link.as_deref(), None);
    while let Some(node) = at {
        if node.prefix.bits.alike(address) < node.prefix.length {
            break;
        }
        best = node.value.as_ref().or(best);
        if node.prefix.length == B::WIDTH {
            break;
        }
        at = node.children[address.bit(node.prefix.length)].as_deref();
    }
    best
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::{Duration, Instant};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    /// Few distinct bits, so that networks nest and collide often.
    fn net() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| {
            let address = Ipv4Addr::from(0x0a00_0000 | (bits & 0x8003_0003));
            IpNet::V4(Ipv4Net::new(address, length).expect("a length up to 32"))
        });
        let v6 = (any::<u128>(), 0u8..=128).prop_map(|(bits, length)| {
            let address = Ipv6Addr::from((0x7d00 << 112) | (bits & ((1 << 127) | (3 << 64) | 3)));
            IpNet::V6(Ipv6Net::new(address, length).expect("a length up to 128"))
        });
        prop_oneof![v4, v6]
    }

    fn scan(entries: &BTreeMap<IpNet, u32>, address: IpAddr) -> Option<u32> {
        let around = entries.iter().filter(|(net, _)| net.contains(&address));
        around.max_by_key(|(net, _)| net.prefix_len()).map(|(_, peer)| *peer)
    }

    /// Nodes, and whether each has a value or two children, a longer prefix than the one above and lies inside it.
    fn sound<B: Bits, P>(link: &Link<B, P>, above: Option<Prefix<B>>) -> Option<usize> {
        let Some(node) = link else { return Some(0) };
        let inside = above.is_none_or(|above| {
            above.length < node.prefix.length && above.shared(node.prefix) == above.length
        });
        let needed = node.value.is_some() || node.children.iter().all(Option::is_some);
        let below: Option<usize> = node.children.iter().map(|child| sound(child, Some(node.prefix))).sum();
        below.filter(|_| inside && needed).map(|below| below + 1)
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_a_linear_scan_and_copies_stay_as_they_were(
            edits in prop::collection::vec((any::<bool>(), net(), 0u32..8, any::<bool>()), 0..60),
            probes in prop::collection::vec(net(), 1..40),
        ) {
            let (mut trie, mut list) = (Routes::new(), BTreeMap::new());
            let mut copies = Vec::new();
            for (insert, net, peer, copy) in edits {
                if insert {
                    prop_assert_eq!(trie.insert(net, peer), list.insert(net.trunc(), peer));
                } else {
                    prop_assert_eq!(trie.remove(net), list.remove(&net.trunc()));
                }
                if copy {
                    copies.push((trie.clone(), list.clone()));
                }
                let nodes = sound(&trie.v4, None).zip(sound(&trie.v6, None)).map(|(v4, v6)| v4 + v6);
                prop_assert!(nodes.is_some_and(|nodes| nodes <= 2 * list.len()), "{:?}", trie);
            }
            copies.push((trie, list));
            for (trie, list) in copies {
                for probe in &probes {
                    prop_assert_eq!(trie.lookup(probe.addr()).copied(), scan(&list, probe.addr()));
                }
            }
        }
    }

    #[test]
    fn an_edit_of_ten_thousand_networks_that_a_reader_holds_copies_only_its_path() {
        let mut trie = Routes::new();
        let net = |i: u32| IpNet::V4(Ipv4Net::new((0x0a00_0000 | (i << 8)).into(), 24).expect("a length"));
        for i in 0..10_000 {
            assert_eq!(trie.insert(net(i), i), None);
        }
        let edits = 1000;
        let started = Instant::now();
        for i in 0..edits {
            let held = trie.clone();
            assert_eq!(trie.remove(net(i)), Some(i));
            assert_eq!(trie.insert(net(i), i + 1), None);
            assert_eq!(held.lookup(net(i).addr()), Some(&i));
        }
        // Copying all nodes would take more than a hundred times as long.
        assert!(started.elapsed() < edits * Duration::from_micros(100), "{:?}", started.elapsed());
        assert_eq!(trie.lookup(net(3).addr()), Some(&4));
    }
}

//! Which port a symmetric NAT will give next, guessed from those that it gave. Sends nothing.
//!
//! A NAT that gives each remote another port mostly counts: the next port is a small step above the last. A ping from us to
//! the right one opens our own NAT for the packets that the peer sends us from there, and then it is no guess any more.
//! Against a NAT that gives ports by chance one socket has no hope worth its packets; there many sockets meet many guesses, see
//! `birthday`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Guesses of one search: with a second for each of 66 bytes, 34 kbit/s for a few seconds.
pub(super) const GUESSES_MAX: usize = 64;
/// A larger distance between two ports is chance, not counting.
const STRIDE_MAX: u16 = 16;
/// Ports that others behind the same NAT may have been given meanwhile, in steps.
const STEPS_MAX: u16 = 32;

/// Whether the ports that a NAT gave say that it does not count.
pub(super) fn is_chance(seen: &[SocketAddr]) -> bool {
    let v4: BTreeSet<&SocketAddr> = seen.iter().filter(|address| address.is_ipv4()).collect();
    v4.len() > 1 && guesses(seen).is_empty()
}

/// Ports of a peer's NAT to try, the likeliest first, given where it was seen.
pub(super) fn guesses(seen: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut ports: Vec<(IpAddr, u16)> =
        seen.iter().filter(|a| a.is_ipv4()).map(|a| (a.ip(), a.port())).collect();
    ports.sort_unstable();
    let Some((ip, highest)) = ports.last().copied() else { return Vec::new() };
    let below = ports.iter().rev().find(|(other, port)| *other == ip && *port < highest);
    let Some(stride) = below.map(|(_, port)| highest - port).filter(|stride| *stride <= STRIDE_MAX) else {
        return Vec::new();
    };
    let by_stride = (1..=STEPS_MAX).filter_map(|n| highest.checked_add(n.checked_mul(stride)?));
    let by_one = (1..=STEPS_MAX).filter_map(|n| highest.checked_add(n));
    let mut known = BTreeSet::new();
    let likely = by_stride.chain(by_one).filter(|port| known.insert(*port));
    likely.take(GUESSES_MAX).map(|port| SocketAddr::new(ip, port)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seen: &[&str], first: Option<&str>) {
        let seen: Vec<SocketAddr> = seen.iter().map(|text| text.parse().expect("an address")).collect();
        let guesses = guesses(&seen);
        assert_eq!(guesses.first().copied(), first.and_then(|text| text.parse().ok()), "{seen:?}");
        assert!(guesses.len() <= GUESSES_MAX);
    }

    #[test]
    fn a_nat_that_counts_is_guessed() {
        check(&["203.0.113.1:2000", "203.0.113.1:2001"], Some("203.0.113.1:2002"));
        check(&["203.0.113.1:2004", "203.0.113.1:2000"], Some("203.0.113.1:2008"));
        check(&["203.0.113.1:2000", "203.0.113.1:40000"], None);
        check(&["203.0.113.1:2000"], None);
        check(&["203.0.113.1:2000", "203.0.113.2:2001"], None);
        check(&["203.0.113.1:65534", "203.0.113.1:65535"], None);
        check(&[], None);
    }

    #[test]
    fn a_nat_that_does_not_count_is_known_by_two_ports() {
        let chance = |seen: &[&str]| {
            let seen: Vec<SocketAddr> = seen.iter().map(|text| text.parse().expect("an address")).collect();
            is_chance(&seen)
        };
        assert!(chance(&["203.0.113.1:2000", "203.0.113.1:40000"]));
        assert!(!chance(&["203.0.113.1:2000", "203.0.113.1:2004"]));
        assert!(!chance(&["203.0.113.1:2000", "203.0.113.1:2000"]));
        assert!(!chance(&["203.0.113.1:2000"]) && !chance(&[]));
    }
}

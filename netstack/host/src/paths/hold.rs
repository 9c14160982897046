//! Which of the kernel's peers are pointed to where they should be again and again, and for how long. Points nobody.
//!
//! The kernel sends to where a peer's last packet came from: where our packets alone are lost, each of the peer's would lead it back to
//! the address by which they are, until the peer leaves that, too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::time::{Duration, Instant};

use model::PublicKey;

/// How often: the first packets within that time after each of the peer's are lost, and one word to the kernel takes some
/// microseconds.
pub(super) const AGAIN: Duration = Duration::from_millis(20);
/// After an address was left, for so long: the peer heard of our doubt over the relay, and leaves an address by which its pings are not
/// answered in half a second, or in a few where it is of a version before doubt.
pub(super) const LEFT: Duration = Duration::from_secs(3);
/// Peers in one turn, where many are in doubt at once; the others are next.
const AT_ONCE_MAX: usize = 64;

/// See the top of the file.
#[derive(Debug, Default)]
pub(super) struct Held {
    peers: BTreeMap<PublicKey, Hold>,
    /// The last of the turn before.
    last: Option<PublicKey>,
}

/// Where a peer is to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) to: SocketAddr,
    /// `None`: until it is said anew.
    pub(super) until: Option<Instant>,
}

impl Held {
    /// Holds a peer from now on; `None`: no longer.
    pub(super) fn set(&mut self, peer: &PublicKey, hold: Option<Hold>) {
        match hold {
            Some(hold) => self.peers.insert(*peer, hold),
            None => self.peers.remove(peer),
        };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Those whose turn it is now.
    pub(super) fn take(&mut self, now: Instant) -> Vec<(PublicKey, SocketAddr)> {
        self.peers.retain(|_, hold| hold.until.is_none_or(|until| until > now));
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.peers.range((after, Bound::Unbounded));
        let all = rest.chain(&self.peers).take(self.peers.len().min(AT_ONCE_MAX));
        let due: Vec<_> = all.map(|(peer, hold)| (*peer, hold.to)).collect();
        self.last = due.last().map(|(peer, _)| *peer);
        due
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn hold(until: Option<Instant>) -> Option<Hold> {
        Some(Hold { to: ([127, 64, 0, 1], 7).into(), until })
    }

    #[test]
    fn a_peer_is_held_as_long_as_it_is_told_and_no_other_is() {
        let (now, peer) = (Instant::now(), PublicKey::from_bytes([1; 32]));
        let mut held = Held::default();
        held.set(&peer, hold(None));
        assert_eq!(held.take(now + Duration::from_secs(3600)), [(peer, ([127, 64, 0, 1], 7).into())]);
        held.set(&peer, hold(Some(now + LEFT)));
        assert_eq!(held.take(now + LEFT / 2).len(), 1);
        assert_eq!(held.take(now + LEFT), []);
        assert!(held.is_empty(), "it is over");
        held.set(&peer, hold(None));
        held.set(&peer, None);
        assert!(held.is_empty() && held.take(now).is_empty());
    }

    #[test]
    fn of_very_many_each_has_its_turn() {
        let now = Instant::now();
        let mut held = Held::default();
        let peers: BTreeSet<_> = (0..150).map(|number| PublicKey::from_bytes([number; 32])).collect();
        peers.iter().for_each(|peer| held.set(peer, hold(None)));
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            let turn = held.take(now);
            assert_eq!(turn.len(), AT_ONCE_MAX);
            seen.extend(turn.into_iter().map(|(peer, _)| peer));
        }
        assert_eq!(seen, peers);
    }
}

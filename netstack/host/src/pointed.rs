//! Which peers were told an endpoint and have not answered there. Knows no engine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use engine::{ObservedPeer, STALE_AFTER};
use model::PublicKey;

use crate::paths::stands_for_peer;
use crate::wireguard::PeerState;

/// A peer that never answered is not where it was set to be: something of before pulled it away, such as the last message of a hub's
/// interface that is gone. Three tries (WireGuard paper, section 6.4) have found nobody there.
const STRAYED_AFTER: Duration = Duration::from_secs(15);

/// Which endpoint was set and when, for each peer that had one set.
#[derive(Default)]
pub(crate) struct Pointed(BTreeMap<PublicKey, (SocketAddr, Instant)>);

/// How an endpoint compares with what was set before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pointing {
    /// Another was set.
    Elsewhere,
    /// The same was, or none.
    AsBefore,
}

impl Pointed {
    pub(crate) fn set(&mut self, key: PublicKey, endpoint: SocketAddr) -> Pointing {
        let before = self.0.insert(key, (endpoint, Instant::now()));
        let elsewhere = before.is_some_and(|(before, _)| before != endpoint);
        if elsewhere { Pointing::Elsewhere } else { Pointing::AsBefore }
    }

    pub(crate) fn forget(&mut self, key: &PublicKey) {
        self.0.remove(key);
    }

    pub(crate) fn forget_all(&mut self) {
        self.0.clear();
    }

    /// The peers as the engine wants to see them.
    pub(crate) fn observe(&self, peers: BTreeMap<PublicKey, PeerState>) -> BTreeMap<PublicKey, ObservedPeer> {
        let now = (SystemTime::now(), Instant::now());
        let observe = |(key, mut peer): (PublicKey, PeerState)| {
            // Only the road knows where that leads, and nowhere if it is of a life before.
            peer.endpoint = peer.endpoint.filter(|to| !stands_for_peer(*to));
            let stale = self.is_stale(&key, &peer, now);
            let PeerState { allowed, endpoint, keepalive_seconds, .. } = peer;
            (key, ObservedPeer { allowed, endpoint, keepalive_seconds, stale })
        };
        peers.into_iter().map(observe).collect()
    }

    /// A handshake is due only where packets flow, and with keepalives they always do.
    fn is_stale(&self, key: &PublicKey, peer: &PeerState, (wall, now): (SystemTime, Instant)) -> bool {
        let silent = match peer.last_handshake {
            // The first keepalive that finds the session too old begins the next one.
            Some(at) => wall
                .duration_since(at)
                .is_ok_and(|age| age >= STALE_AFTER + Duration::from_secs(peer.keepalive_seconds.into())),
            None => true,
        };
        let told = self.0.get(key);
        let is_elsewhere = told.is_some_and(|(to, _)| peer.endpoint.is_some_and(|at| at != *to));
        let has_strayed = is_elsewhere && peer.last_handshake.is_none();
        let patience = if has_strayed { STRAYED_AFTER } else { STALE_AFTER };
        let tried = told.is_none_or(|(_, at)| now.duration_since(*at) >= patience);
        peer.endpoint.is_some() && peer.keepalive_seconds > 0 && silent && tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_never_answered_is_stale_sooner_where_it_was_not_set_to_be() {
        let key = PublicKey::from_bytes([1; 32]);
        let (there, elsewhere) =
            (SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from(([192, 0, 2, 1], 2)));
        let stale = |set: u64, endpoint, heard: Option<u64>| {
            let (wall, now) = (SystemTime::now(), Instant::now());
            let state = PeerState {
                endpoint: Some(endpoint),
                keepalive_seconds: 25,
                last_handshake: heard.map(|heard| wall - Duration::from_secs(heard)),
                ..PeerState::default()
            };
            let later = now + Duration::from_secs(set);
            Pointed([(key, (there, now))].into()).is_stale(&key, &state, (wall, later))
        };
        assert!(!stale(149, there, None) && stale(150, there, None));
        assert!(!stale(14, elsewhere, None) && stale(15, elsewhere, None));
        assert!(
            !stale(150, elsewhere, Some(174)) && stale(150, elsewhere, Some(176)),
            "it answers from there"
        );
    }
}

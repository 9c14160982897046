//! Which peers were told an endpoint and have not answered there. Knows no engine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use engine::{ObservedPeer, STALE_AFTER};
use model::PublicKey;

use crate::paths::stands_for_peer;
use crate::wireguard::PeerState;

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
        let now = SystemTime::now();
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
    fn is_stale(&self, key: &PublicKey, peer: &PeerState, now: SystemTime) -> bool {
        let silent = match peer.last_handshake {
            // The first keepalive that finds the session too old begins the next one.
            Some(at) => now
                .duration_since(at)
                .is_ok_and(|age| age >= STALE_AFTER + Duration::from_secs(peer.keepalive_seconds.into())),
            None => true,
        };
        let tried = self.0.get(key).is_none_or(|(_, at)| at.elapsed() >= STALE_AFTER);
        peer.endpoint.is_some() && peer.keepalive_seconds > 0 && silent && tried
    }
}

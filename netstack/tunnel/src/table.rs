//! The peers of a device: by key, by allowed network and by receiver index. Knows no update and no packet.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;
use model::PublicKey;

use crate::allowed::AllowedIps;
use crate::peer::Peer;
use crate::state::PeerState;

/// Attempts to find a free index among 2^24 that are at most half used.
const INDEX_ATTEMPTS: u32 = 64;

/// Which peer a receiver index belongs to: its upper 24 bits; the lower eight count the peer's sessions.
#[derive(Default)]
pub(crate) struct Indices(RwLock<HashMap<u32, Arc<Peer>>>);

impl Indices {
    /// An index that nobody else has, random so that it tells nothing. `None` if there is none to be found.
    pub(crate) fn lease(self: &Arc<Self>, peer: &Arc<Peer>) -> Option<Lease> {
        let mut indices = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..INDEX_ATTEMPTS {
            let index = getrandom::u32().ok()? >> 8;
            if let Slot::Vacant(free) = indices.entry(index) {
                free.insert(Arc::clone(peer));
                return Some(Lease { index, indices: Arc::clone(self) });
            }
        }
        None
    }

    /// The peer that a message's receiver index belongs to, and the index.
    pub(crate) fn find(&self, receiver: [u8; 4]) -> Option<(u32, Arc<Peer>)> {
        let index = u32::from_le_bytes(receiver) >> 8;
        let indices = self.0.read().unwrap_or_else(PoisonError::into_inner);
        indices.get(&index).map(|peer| (index, Arc::clone(peer)))
    }
}

/// An index in use; free again when dropped.
pub(crate) struct Lease {
    index: u32,
    indices: Arc<Indices>,
}

impl Lease {
    pub(crate) const fn index(&self) -> u32 {
        self.index
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.indices.0.write().unwrap_or_else(PoisonError::into_inner).remove(&self.index);
    }
}

/// The peers by key and by allowed network.
pub(crate) struct Peers {
    by_key: BTreeMap<PublicKey, Entry>,
    pub(crate) routes: AllowedIps<Arc<Peer>>,
    next_number: u64,
}

struct Entry {
    peer: Arc<Peer>,
    allowed_ips: BTreeSet<IpNet>,
}

impl Entry {
    fn state(&self) -> PeerState {
        let session = self.peer.lock();
        PeerState {
            key: self.peer.key,
            preshared_key: session.preshared_key.clone(),
            endpoint: session.endpoint.map(|endpoint| endpoint.remote),
            last_handshake: session.last_handshake,
            received_bytes: session.received_bytes,
            sent_bytes: session.sent_bytes,
            keepalive_seconds: session.keepalive_seconds,
            allowed_ips: self.allowed_ips.clone(),
        }
    }
}

impl Peers {
    pub(crate) fn new() -> Self {
        Self { by_key: BTreeMap::new(), routes: AllowedIps::new(), next_number: 0 }
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.by_key.values().map(|entry| &entry.peer)
    }

    pub(crate) fn state(&self, key: &PublicKey) -> Option<PeerState> {
        self.by_key.get(key).map(Entry::state)
    }

    pub(crate) fn states(&self) -> Vec<PeerState> {
        self.by_key.values().map(Entry::state).collect()
    }

    pub(crate) fn find(&self, key: &PublicKey) -> Option<Arc<Peer>> {
        self.by_key.get(key).map(|entry| Arc::clone(&entry.peer))
    }

    pub(crate) fn find_or_add(&mut self, key: PublicKey) -> Arc<Peer> {
        let entry = self.by_key.entry(key).or_insert_with(|| {
            self.next_number += 1;
            Entry { peer: Peer::new(key, self.next_number), allowed_ips: BTreeSet::new() }
        });
        Arc::clone(&entry.peer)
    }

    pub(crate) fn remove(&mut self, key: &PublicKey) -> Option<Arc<Peer>> {
        let entry = self.by_key.remove(key)?;
        for net in entry.allowed_ips {
            self.routes.remove(net);
        }
        Some(entry.peer)
    }

    /// Empties the table.
    pub(crate) fn take_all(&mut self) -> Vec<Arc<Peer>> {
        self.routes = AllowedIps::new();
        std::mem::take(&mut self.by_key).into_values().map(|entry| entry.peer).collect()
    }

    /// Gives a network to a peer; whoever had it has it no longer.
    pub(crate) fn allow(&mut self, peer: &Arc<Peer>, net: IpNet) {
        let net = net.trunc();
        if let Some(before) = self.routes.insert(net, Arc::clone(peer))
            && let Some(entry) = self.by_key.get_mut(&before.key)
        {
            entry.allowed_ips.remove(&net);
        }
        if let Some(entry) = self.by_key.get_mut(&peer.key) {
            entry.allowed_ips.insert(net);
        }
    }

    pub(crate) fn disallow(&mut self, peer: &Peer, net: IpNet) {
        let net = net.trunc();
        if let Some(entry) = self.by_key.get_mut(&peer.key)
            && entry.allowed_ips.remove(&net)
        {
            self.routes.remove(net);
        }
    }

    pub(crate) fn disallow_all(&mut self, peer: &Peer) {
        if let Some(entry) = self.by_key.get_mut(&peer.key) {
            for net in std::mem::take(&mut entry.allowed_ips) {
                self.routes.remove(net);
            }
        }
    }
}

//! The peers of a device: by key and by allowed network. Knows no update and no packet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use ipnet::IpNet;
use model::PublicKey;

use crate::peer::Peer;
use crate::random;
use crate::routes::Routes;
use crate::state::PeerState;
use crate::update::PresharedKey;

/// The peers, and the routes that the threads are given a copy of.
pub(crate) struct Table {
    by_key: BTreeMap<PublicKey, Entry>,
    routes: Routes<Arc<Peer>>,
    next_number: u64,
}

struct Entry {
    peer: Arc<Peer>,
    allowed_ips: BTreeSet<IpNet>,
}

impl Entry {
    fn state(&self) -> PeerState {
        let machine = self.peer.lock();
        let (received_bytes, sent_bytes) = self.peer.counted();
        PeerState {
            key: self.peer.key,
            preshared_key: machine.preshared_key().copied().and_then(PresharedKey::from_bytes),
            endpoint: self.peer.path().and_then(|path| path.udp()).map(|endpoint| endpoint.remote),
            last_handshake: machine.last_handshake().map(|since| UNIX_EPOCH + since),
            received_bytes,
            sent_bytes,
            keepalive_seconds: machine.keepalive_seconds(),
            allowed_ips: self.allowed_ips.clone(),
        }
    }
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { by_key: BTreeMap::new(), routes: Routes::new(), next_number: 0 }
    }

    /// A copy that later changes do not touch.
    pub(crate) fn routes(&self) -> Routes<Arc<Peer>> {
        self.routes.clone()
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
            // Timers are spread by it; it protects nothing.
            let seed = u64::from_le_bytes(random::try_bytes().unwrap_or_default());
            Entry { peer: Peer::new(key, self.next_number, seed), allowed_ips: BTreeSet::new() }
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
        self.routes = Routes::new();
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

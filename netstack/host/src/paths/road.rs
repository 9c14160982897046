//! The way of each peer's packets, as our own WireGuard device is told: to an address, or over a relay. Holds the device for
//! the thread that makes it and for the loop that steers it; chooses no way.
//!
//! ```text
//!   device ── Way::To(address) ─────────────▶ UDP
//!      │  └── Way::By(ferry) ──▶ relay ─────▶ peer         a ferry for each peer, also for one that nobody talks to:
//!      ◀───────── arrived ◀──────┘                         its first packet goes at once, and wakes the search for a path
//! ```
//!
//! Locks are taken in this order: the ways, then the device. The device's own threads take neither.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Instant;

use engine::paths::{PathInput, RelayId, Way};
use model::{DeviceId, PublicKey};
use tokio::sync::mpsc;
use tunnel::{Carrier, Device, Probe};

use crate::paths::relay::{RelayCarrier, Relays};

/// What the loop has not heard yet. More is lost, as datagrams are.
const NEWS_MAX: usize = 1024;
/// Datagrams in a second that are taken for probes: a thousand peers that are looked for at once send as many. Forged
/// ones cost the loop no more.
const PROBES_PER_SECOND_MAX: u32 = 5_000;
/// See the top of the file. Clones are the same road.
#[derive(Clone)]
pub(crate) struct Road(Arc<Inner>);

struct Inner {
    device: RwLock<Option<Device>>,
    ways: Mutex<Ways>,
    /// `None` for a node that looks for no paths.
    paths: Option<Paths>,
}

struct Paths {
    news: mpsc::Sender<PathInput>,
    relays: Relays,
}

#[derive(Default)]
struct Ways {
    peers: BTreeMap<PublicKey, Entry>,
    keys: BTreeMap<DeviceId, PublicKey>,
    /// The nearest relay.
    first: Option<RelayId>,
}

struct Entry {
    device: DeviceId,
    ferry: Arc<RelayCarrier>,
    /// As the engine steers it; `None` while it does not.
    way: Option<Way>,
}

impl Road {
    /// For a node that looks for no paths: its device sends to where its peers are heard.
    pub(crate) fn idle() -> Self {
        Self(Arc::new(Inner { device: RwLock::new(None), ways: Mutex::default(), paths: None }))
    }

    /// For a node that does; with what it hears of them.
    pub(crate) fn new() -> (Self, mpsc::Receiver<PathInput>) {
        let (news, heard) = mpsc::channel(NEWS_MAX);
        let inner = Arc::new_cyclic(|inner: &Weak<Inner>| {
            let inner = Weak::clone(inner);
            let relays = Relays::new(news.clone(), move |from, message| {
                if let Some(inner) = inner.upgrade() {
                    Self(inner).arrived(from, message);
                }
            });
            Inner { device: RwLock::new(None), ways: Mutex::default(), paths: Some(Paths { news, relays }) }
        });
        (Self(inner), heard)
    }

    /// What a device on this road is made with, if paths are looked for.
    pub(crate) fn hook(&self) -> Option<Probe> {
        let news = self.0.paths.as_ref()?.news.clone();
        let (since, second, taken) = (Instant::now(), AtomicU64::new(0), AtomicU32::new(0));
        Some(Probe::new(move |datagram, from| {
            if !engine::paths::concerns(datagram) {
                return;
            }
            // Only the thread that reads the sockets comes here.
            let now = since.elapsed().as_secs();
            if second.swap(now, Relaxed) != now {
                taken.store(0, Relaxed);
            }
            if taken.fetch_add(1, Relaxed) < PROBES_PER_SECOND_MAX {
                let _ = news.try_send(PathInput::Datagram { from, bytes: datagram.into() });
            }
        }))
    }

    /// Puts a device on the road; the one before ends.
    pub(crate) fn put(&self, device: Option<Device>) {
        *self.0.device.write().unwrap_or_else(PoisonError::into_inner) = device;
    }

    /// Does something with the device, if there is one and nobody deleted its interface.
    pub(crate) fn device<T>(&self, act: impl FnOnce(&Device) -> T) -> Option<T> {
        let device = self.0.device.read().unwrap_or_else(PoisonError::into_inner);
        device.as_ref().filter(|device| !device.is_gone()).map(act)
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.0.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The relays that are connected.
    pub(crate) fn relays(&self) -> Option<&Relays> {
        self.0.paths.as_ref().map(|paths| &paths.relays)
    }

    /// Says which device a peer is, or that it is none any more.
    pub(crate) fn know(&self, peer: PublicKey, device: Option<DeviceId>) {
        let Some(relays) = self.relays() else { return };
        let mut ways = self.ways();
        if let Some(before) = ways.peers.remove(&peer) {
            ways.keys.remove(&before.device);
        }
        match device {
            None => drop(self.device(|device| device.steer(&peer, None))),
            Some(device) => {
                let ferry = relays.carrier(peer, device);
                ways.keys.insert(device, peer);
                ways.peers.insert(peer, Entry { device, ferry, way: None });
                self.turn(&ways, &peer);
            }
        }
    }

    /// Sends a peer's packets this way from now on; `None`: over the nearest relay, as at the beginning.
    pub(crate) fn steer(&self, peer: &PublicKey, way: Option<Way>) {
        let mut ways = self.ways();
        if let Some(entry) = ways.peers.get_mut(peer) {
            entry.way = way;
            self.turn(&ways, peer);
        }
    }

    /// The device has the peer, maybe anew.
    pub(crate) fn turn_again(&self, peer: &PublicKey) {
        self.turn(&self.ways(), peer);
    }

    fn turn(&self, ways: &Ways, peer: &PublicKey) {
        let Some(entry) = ways.peers.get(peer) else { return };
        let way = match entry.way {
            Some(Way::Direct(address)) => tunnel::Way::To(address),
            Some(Way::Relayed(relay)) => entry.by(Some(relay)),
            // Its networks are the hub's meanwhile; what is on its way takes a relay.
            Some(Way::ViaHub) | None => entry.by(ways.first),
        };
        self.device(|device| device.steer(peer, Some(way)));
    }

    /// The relays that are connected are these now, the nearest first: those whom nobody talks to are reached over it.
    pub(crate) fn nearest(&self, relays: &[RelayId]) {
        let mut ways = self.ways();
        ways.first = relays.first().copied();
        let unsteered = |entry: &&Entry| matches!(entry.way, None | Some(Way::ViaHub));
        for entry in ways.peers.values().filter(unsteered) {
            entry.by(ways.first);
        }
    }

    /// Takes a message of WireGuard that came over a relay, from whom the relay says.
    fn arrived(&self, from: DeviceId, message: &[u8]) {
        let ways = self.ways();
        let entry = ways.keys.get(&from).and_then(|peer| ways.peers.get(peer));
        let Some(ferry) = entry.map(|entry| Arc::clone(&entry.ferry)) else { return };
        drop(ways);
        let carrier: Arc<dyn Carrier> = ferry;
        self.device(|device| device.receive(&carrier, message));
    }

    /// Sends a probe from WireGuard's socket.
    pub(crate) fn probe(&self, to: SocketAddr, datagram: &[u8]) {
        if let Some(Err(error)) = self.device(|device| device.send_probe(datagram, to)) {
            tracing::debug!(%to, %error, "probe not sent");
        }
    }

    /// Bytes sent to and received from a peer so far.
    pub(crate) fn counted(&self, peer: &PublicKey) -> Option<(u64, u64)> {
        let state = self.device(|device| device.peer(peer)).flatten()?;
        Some((state.sent_bytes, state.received_bytes))
    }
}

impl Entry {
    fn by(&self, relay: Option<RelayId>) -> tunnel::Way {
        self.ferry.set_relay(relay.unwrap_or(RelayId::SERVER));
        tunnel::Way::By(Arc::clone(&self.ferry) as Arc<dyn Carrier>)
    }
}

#[cfg(test)]
mod tests;

//! The way of each peer's packets, as our own WireGuard device is told, or the kernel's: to an address, or over a relay. Holds the
//! device for the thread that makes it and for the loop that steers it; chooses no way.
//!
//! ```text
//!   device ── Way::To(address) ─────────────▶ UDP
//!      │  └── Way::By(ferry) ──▶ relay ─────▶ peer         a ferry for each peer, also for one that nobody talks to:
//!      ◀───────── arrived ◀──────┘                         its first packet goes at once, and wakes the search for a path
//! ```
//!
//! While nobody knows whether an address still answers, packets for it go onto the ferry, which sends them to the address as well.
//!
//! With the kernel's WireGuard a [`Lane`] stands where the device would.
//!
//! Locks are taken in this order: the ways, then the device or the lane. The device's own threads wait for none.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Instant;

use engine::paths::{ConnectedRelay, PROBES_PER_SECOND_MAX, PathInput, RelayId, SideId, Way, side};
use model::{DeviceId, PublicKey};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tunnel::{Carrier, Device, Probe};

use crate::interface::InterfaceName;
use crate::paths::lane::{Lane, Seen, Stay};
use crate::paths::raw;
use crate::paths::relay::{RelayCarrier, Relays, WIREGUARD};
use crate::paths::sides::{BySide, Side, Sides};

/// What the loop has not heard yet. More is lost, as datagrams are.
const NEWS_MAX: usize = 1024;
/// See the top of the file. Clones are the same road.
#[derive(Clone)]
pub(crate) struct Road(Arc<Inner>);

#[derive(Default)]
struct Inner {
    device: RwLock<Option<Device>>,
    lane: RwLock<Option<Lane>>,
    /// Why the kernel's WireGuard could not be steered when that was tried last.
    obstacle: Mutex<Option<String>>,
    ways: Mutex<Ways>,
    /// `None` for a node that looks for no paths.
    paths: Option<Paths>,
}

struct Paths {
    news: mpsc::Sender<PathInput>,
    relays: Relays,
    sides: Sides,
    /// Whether a datagram of any socket concerns the loop, see [`gate`].
    admits: Arc<Admits>,
    /// Where a lane works; tests of devices alone have none.
    runtime: Option<Handle>,
}

type Admits = dyn Fn(&[u8]) -> bool + Send + Sync;

struct Ways {
    peers: BTreeMap<PublicKey, Entry>,
    keys: BTreeMap<DeviceId, PublicKey>,
    /// For those that are not steered.
    first: RelayId,
}

impl Default for Ways {
    fn default() -> Self {
        Self { peers: BTreeMap::new(), keys: BTreeMap::new(), first: RelayId::SERVER }
    }
}

struct Entry {
    device: DeviceId,
    ferry: Arc<RelayCarrier>,
    /// As the engine steers it; `None` while it does not.
    way: Option<Way>,
    /// Over which relay its packets go as well, while they go to an address.
    doubled: Option<RelayId>,
    /// When its packets stopped to go to an address that they went to.
    left_at: Option<Instant>,
}

impl Road {
    /// For a node that looks for no paths: its device sends to where its peers are heard.
    pub(crate) fn idle() -> Self {
        Self(Arc::new(Inner::default()))
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
            let (sides, runtime) = (Sides::default(), Handle::try_current().ok());
            let paths = Paths { news, relays, sides, admits: Arc::new(gate()), runtime };
            Inner { paths: Some(paths), ..Inner::default() }
        });
        (Self(inner), heard)
    }

    /// What a device on this road is made with, if paths are looked for.
    pub(crate) fn hook(&self) -> Option<Probe> {
        Some(Probe::new(self.listener()?))
    }

    fn listener(&self) -> Option<impl Fn(&[u8], SocketAddr) + Send + Sync + use<>> {
        let paths = self.0.paths.as_ref()?;
        let (news, admits) = (paths.news.clone(), Arc::clone(&paths.admits));
        Some(move |datagram: &[u8], from| {
            if admits(datagram) {
                let _ = news.try_send(PathInput::Datagram { from, bytes: datagram.into() });
            }
        })
    }

    /// Opens side sockets for a peer, all or none. Needs a tokio runtime.
    pub(crate) fn open_sides(
        &self,
        peer: &PublicKey,
        ids: impl ExactSizeIterator<Item = SideId>,
        mark: Option<u32>,
    ) -> io::Result<()> {
        let Some(paths) = &self.0.paths else { return Ok(()) };
        let (news, admits, inner) = (paths.news.clone(), Arc::clone(&paths.admits), Arc::downgrade(&self.0));
        let key = *peer;
        paths.sides.open(peer, ids, mark, move |side, datagram, from| {
            if !datagram.first().is_some_and(|first| WIREGUARD.contains(first)) {
                if admits(datagram) {
                    let bytes = datagram.into();
                    let _ = news.try_send(PathInput::Sided { side: side.id, from, bytes });
                }
            } else if let Some(inner) = inner.upgrade() {
                Self(inner).came_beside(&key, side, from, datagram);
            }
        })
    }

    /// Closes the side sockets of a peer but one, and says how many there were.
    pub(crate) fn close_sides(&self, peer: &PublicKey, but: Option<SideId>) -> usize {
        let before = self.0.paths.as_ref().map_or(0, |paths| paths.sides.close(peer, but));
        if but.is_none() {
            // Without another way its packets take the ferry, until it is steered again.
            self.turn_again(peer);
        }
        before
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

    /// Whether the kernel's WireGuard may be steered, before there is one.
    pub(crate) fn look_ahead(&self) {
        if self.0.paths.is_some() {
            self.note(raw::may().err());
        }
    }

    /// Why the kernel's WireGuard cannot be steered; `None` where nobody wants to, or where it can.
    pub(crate) fn obstacle(&self) -> Option<String> {
        self.0.obstacle.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It was tried, and is tried again: each reason is told once.
    fn note(&self, error: Option<io::Error>) {
        let reason = error.map(|error| error.to_string());
        let mut noted = self.0.obstacle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = reason.as_ref().filter(|_| reason != *noted) {
            tracing::warn!(
                code = "kernel-unsteered",
                reason,
                "the kernel's WireGuard cannot be steered: the hub carries what is for other devices"
            );
        }
        *noted = reason;
    }

    /// The kernel's WireGuard was seen so, its port and its peers, or is not there. Those are sent where they should be that are
    /// elsewhere.
    pub(crate) fn seen(&self, interface: &InterfaceName, seen: Option<(u16, BTreeMap<PublicKey, Seen>)>) {
        let Some((port, peers)) = seen.filter(|(port, _)| *port != 0) else {
            *self.0.lane.write().unwrap_or_else(PoisonError::into_inner) = None;
            return;
        };
        let is_new = self.lane(Lane::port) != Some(port);
        if is_new {
            self.open_lane(interface, port);
        }
        let ways = self.ways();
        self.lane(|lane| {
            lane.count(&peers);
            for (peer, entry) in &ways.peers {
                let to = self.place(lane, peer, entry);
                if is_new && !matches!(entry.stay(), Stay::Not) {
                    // It is held by the new lane as by the one before.
                    lane.turn(peer, to, entry.stay());
                } else if peers.get(peer).is_some_and(|seen| seen.endpoint != Some(to)) {
                    lane.point(peer, to);
                }
            }
        });
    }

    fn open_lane(&self, interface: &InterfaceName, port: u16) {
        let runtime = self.0.paths.as_ref().and_then(|paths| paths.runtime.as_ref());
        let (Some(heard), Some(runtime)) = (self.listener(), runtime) else { return };
        let (lane, error) = match Lane::open(interface, port, runtime, heard) {
            Ok(lane) => (Some(lane), None),
            Err(error) => (None, Some(error)),
        };
        *self.0.lane.write().unwrap_or_else(PoisonError::into_inner) = lane;
        self.note(error);
    }

    fn lane<T>(&self, act: impl FnOnce(&Lane) -> T) -> Option<T> {
        self.0.lane.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(act)
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
        if let Some(before) = ways.peers.remove(&peer)
            // The device may have another key by now.
            && ways.keys.get(&before.device) == Some(&peer)
        {
            ways.keys.remove(&before.device);
        }
        match device {
            None => {
                self.device(|device| device.steer(&peer, None));
                self.lane(|lane| lane.forget(&peer));
            }
            Some(device) => {
                let ferry = relays.carrier(peer, device);
                ways.keys.insert(device, peer);
                ways.peers.insert(peer, Entry { device, ferry, way: None, doubled: None, left_at: None });
                self.turn(&ways, &peer);
            }
        }
    }

    /// Sends a peer's packets this way from now on; `None`: as at the beginning.
    pub(crate) fn steer(&self, peer: &PublicKey, way: Option<Way>) {
        let mut ways = self.ways();
        if let Some(entry) = ways.peers.get_mut(peer) {
            let before = entry.direct();
            entry.way = way;
            if before.is_some() && before != entry.direct() {
                entry.left_at = Some(Instant::now());
            }
            if entry.direct().is_none() {
                entry.doubled = None;
            }
            self.turn(&ways, peer);
        }
    }

    /// Sends a peer's packets over this relay as well while they go to an address, or no longer. Says whether that begins, and not over
    /// another one before.
    pub(crate) fn double(&self, peer: &PublicKey, over: Option<RelayId>) -> bool {
        let mut ways = self.ways();
        let direct = ways.peers.get_mut(peer).filter(|entry| entry.direct().is_some());
        let Some(entry) = direct else { return false };
        let before = std::mem::replace(&mut entry.doubled, over);
        self.turn(&ways, peer);
        before.is_none() && over.is_some()
    }

    /// The machine is on another network.
    pub(crate) fn moved(&self) {
        self.lane(Lane::moved);
    }

    /// Sends a peer's packets over every relay, or no longer.
    pub(crate) fn race(&self, peer: &PublicKey, on: bool) {
        let ways = self.ways();
        if let Some(entry) = ways.peers.get(peer) {
            entry.ferry.race(on);
        }
    }

    /// Where the kernel is to send the packets of a peer that is steered.
    pub(crate) fn place_of(&self, peer: &PublicKey) -> Option<SocketAddr> {
        let ways = self.ways();
        let entry = ways.peers.get(peer).filter(|entry| entry.way.is_some())?;
        self.lane(|lane| self.place(lane, peer, entry))
    }

    /// The device has the peer, maybe anew.
    pub(crate) fn turn_again(&self, peer: &PublicKey) {
        self.turn(&self.ways(), peer);
    }

    fn turn(&self, ways: &Ways, peer: &PublicKey) {
        let Some(entry) = ways.peers.get(peer) else { return };
        entry.board(ways.first);
        if let Some(to) = entry.direct().filter(|_| entry.alone().is_none()) {
            entry.ferry.set_beside(self.toward(to).map(|way| match way {
                tunnel::Way::To(to) => Arc::new(Beside { inner: Arc::downgrade(&self.0), to }),
                tunnel::Way::By(side) => side,
            }));
        }
        self.device(|device| device.steer(peer, Some(self.aim(entry))));
        self.lane(|lane| lane.turn(peer, self.place(lane, peer, entry), entry.stay()));
        // Not before the last packet went onto the ferry.
        if entry.doubled.is_none() {
            entry.ferry.set_beside(None);
        }
    }

    /// How a peer's packets go: to an address, or by what carries them.
    fn aim(&self, entry: &Entry) -> tunnel::Way {
        let direct = entry.alone().and_then(|to| self.toward(to));
        direct.unwrap_or_else(|| tunnel::Way::By(Arc::clone(&entry.ferry) as Arc<dyn Carrier>))
    }

    /// To an address, or from a side socket if the address is such a place. `None`: that one is closed.
    fn toward(&self, to: SocketAddr) -> Option<tunnel::Way> {
        let Some((id, remote)) = side(to) else { return Some(tunnel::Way::To(to)) };
        let carrier = self.0.paths.as_ref()?.sides.carrier(id, remote)?;
        Some(tunnel::Way::By(Arc::new(carrier)))
    }

    /// Where the kernel is to send a peer's packets.
    fn place(&self, lane: &Lane, peer: &PublicKey, entry: &Entry) -> SocketAddr {
        match self.aim(entry) {
            tunnel::Way::To(to) => {
                lane.place(peer, Some(to), &(Arc::clone(&entry.ferry) as Arc<dyn Carrier>))
            }
            tunnel::Way::By(carrier) => lane.place(peer, None, &carrier),
        }
    }

    /// The relays that are connected are these now, the nearest first.
    pub(crate) fn connected(&self, relays: &[ConnectedRelay]) {
        let relays: Vec<RelayId> = relays.iter().map(|relay| relay.id).collect();
        let mut ways = self.ways();
        ways.first = engine::paths::first_relay(&relays);
        let unsteered = |entry: &&Entry| !matches!(entry.way, Some(Way::Relayed(_)));
        for entry in ways.peers.values().filter(unsteered) {
            entry.board(ways.first);
        }
    }

    /// Takes a message of WireGuard that came over a relay, from whom the relay says.
    fn arrived(&self, from: DeviceId, message: &[u8]) {
        let ways = self.ways();
        let Some(peer) = ways.keys.get(&from).copied() else { return };
        let Some(ferry) = ways.peers.get(&peer).map(|entry| Arc::clone(&entry.ferry)) else { return };
        drop(ways);
        let carrier: Arc<dyn Carrier> = ferry;
        self.device(|device| device.receive(&carrier, message));
        self.lane(|lane| lane.deliver(&peer, message));
    }

    /// Takes a message of WireGuard that came to a side socket of a peer.
    fn came_beside(&self, peer: &PublicKey, side: &Arc<Side>, from: SocketAddr, message: &[u8]) {
        let carrier: Arc<dyn Carrier> = Arc::new(BySide::new(side, from));
        self.device(|device| device.receive(&carrier, message));
        self.lane(|lane| lane.deliver(peer, message));
    }

    /// Sends a probe from WireGuard's socket, or from a side socket.
    pub(crate) fn probe(&self, to: SocketAddr, datagram: &[u8]) {
        if side(to).is_some() {
            if let Some(tunnel::Way::By(carrier)) = self.toward(to) {
                carrier.send(&mut std::iter::once(datagram));
            }
            return;
        }
        let sent = self.device(|device| device.send_probe(datagram, to));
        if let Some(Err(error)) = sent.or_else(|| self.lane(|lane| lane.probe(to, datagram))) {
            tracing::debug!(%to, %error, "probe not sent");
        }
    }

    /// Bytes sent to and received from a peer so far.
    pub(crate) fn counted(&self, peer: &PublicKey) -> Option<(u64, u64)> {
        match self.device(|device| device.peer(peer)).flatten() {
            Some(state) => Some((state.sent_bytes, state.received_bytes)),
            None => self.lane(|lane| lane.counted(peer)).flatten(),
        }
    }
}

/// Whether a datagram concerns the loop, and it can take one more in this second.
fn gate() -> impl Fn(&[u8]) -> bool + Send + Sync + use<> {
    let (since, second, taken) = (Instant::now(), AtomicU64::new(0), AtomicU32::new(0));
    move |datagram: &[u8]| {
        if !engine::paths::concerns(datagram) {
            return false;
        }
        // Two that read sockets at the turn of a second may let in a few more.
        let now = since.elapsed().as_secs();
        if second.swap(now, Relaxed) != now {
            taken.store(0, Relaxed);
        }
        taken.fetch_add(1, Relaxed) < PROBES_PER_SECOND_MAX
    }
}

/// Sends what is on a ferry to an address, too, as it is.
struct Beside {
    inner: Weak<Inner>,
    to: SocketAddr,
}

impl Carrier for Beside {
    fn send(&self, messages: &mut dyn Iterator<Item = &[u8]>) {
        let Some(inner) = self.inner.upgrade() else { return };
        inner.send_beside(messages, self.to);
        // A thread of the device cannot end it, which waits for its threads.
        if let Some(last) = Arc::into_inner(inner) {
            std::thread::spawn(move || drop(last));
        }
    }

    fn name(&self) -> &str {
        "direct"
    }
}

impl Inner {
    fn send_beside(&self, messages: &mut dyn Iterator<Item = &[u8]>, to: SocketAddr) {
        // Whoever puts another device there may be waiting for who comes here, and is not waited for.
        let (device, lane) = (self.device.try_read(), self.lane.try_read());
        let device = device.as_ref().ok().and_then(|device| device.as_ref());
        let lane = lane.as_ref().ok().and_then(|lane| lane.as_ref());
        for message in messages {
            let sent = device.map(|device| device.send_sealed(message, to));
            // What there is no room for is lost: the relay has a copy, for which nobody waits here, and it is the address that is in doubt.
            let _ = sent.or_else(|| lane.map(|lane| lane.probe(to, message)));
        }
    }
}

impl Entry {
    /// The address that packets go to. `None`: they go by the ferry alone.
    const fn direct(&self) -> Option<SocketAddr> {
        match self.way {
            Some(Way::Direct(address)) => Some(address),
            Some(Way::Relayed(_) | Way::ViaHub) | None => None,
        }
    }

    /// The address that packets go to and nowhere else. `None`: they go by the ferry.
    fn alone(&self) -> Option<SocketAddr> {
        self.direct().filter(|_| self.doubled.is_none())
    }

    /// How long the kernel is kept from following the peer's packets.
    fn stay(&self) -> Stay {
        match self.left_at {
            _ if self.doubled.is_some() => Stay::InDoubt,
            Some(at) => Stay::Left(at),
            None => Stay::Not,
        }
    }

    /// Tells the ferry over which relay it goes.
    fn board(&self, first: RelayId) {
        let (relay, is_steered) = match (self.way, self.doubled) {
            (Some(Way::Relayed(relay)), _) | (_, Some(relay)) => (relay, true),
            // The kernel answers a peer that is direct by the ferry all the same, if its packet came so: over the same relay. The
            // networks of one that was left are the hub's, and what is on its way takes a relay.
            (Some(Way::Direct(_) | Way::ViaHub) | None, None) => (first, false),
        };
        self.ferry.set_relay(relay, is_steered);
    }
}

#[cfg(test)]
mod tests;

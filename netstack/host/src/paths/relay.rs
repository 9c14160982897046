//! Packets over relays: a carrier for each peer on the datagrams of the links that stand. Chooses no path, and reads of a
//! payload only whether it is WireGuard's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use engine::paths::{ConnectedRelay, PathInput, RelayId};
use link::Datagrams;
use model::relay::{Joiner, PieceIds, Relayed, datagram};
use model::{DeviceId, Mono, PublicKey};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tunnel::Carrier;

/// The paths are told this often that a peer has packets and no direct path: a search takes about a second, and each word
/// costs the event loop a turn.
const WANTED_INTERVAL: Duration = Duration::from_secs(1);
/// Types of WireGuard's messages (WireGuard paper, section 5.4); the first byte of what is sealed for the paths is above.
pub(super) const WIREGUARD: std::ops::RangeInclusive<u8> = 1..=4;

/// The first message of a handshake.
const INITIATION: u8 = 1;
/// After so long WireGuard begins its handshake anew (Rekey-Timeout in section 6.1).
const INITIATION_LIFE: Duration = Duration::from_secs(5);

/// Takes a message of WireGuard from a device.
type Receive = dyn Fn(DeviceId, &[u8]) + Send + Sync;

/// All relays that are connected, and the peers that can be reached over them. Clones share them.
#[derive(Clone)]
pub struct Relays(Arc<Shared>);

struct Shared {
    lines: RwLock<BTreeMap<RelayId, Arc<Line>>>,
    peers: RwLock<BTreeMap<DeviceId, Weak<RelayCarrier>>>,
    news: mpsc::Sender<PathInput>,
    receive: Box<Receive>,
    origin: Instant,
}

/// One relay that is connected.
struct Line {
    datagrams: Datagrams,
    /// Of packets that are cut.
    ids: Mutex<PieceIds>,
}

impl Line {
    fn send(&self, to: DeviceId, payload: &[u8]) {
        let bytes_max = self.datagrams.bytes_max();
        let pieces = datagram::cut(to, payload, bytes_max, &mut lock(&self.ids));
        for piece in pieces {
            // What there is no room for is lost, as in any network.
            let _ = self.datagrams.send(piece.write().into());
        }
    }
}

impl Relays {
    /// No relay yet. `news` is told what the paths must know; what is no news a second later is lost when it is full.
    /// `receive` is called by tasks of the runtime, which wait for it.
    pub fn new(
        news: mpsc::Sender<PathInput>,
        receive: impl Fn(DeviceId, &[u8]) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            lines: RwLock::default(),
            peers: RwLock::default(),
            news,
            receive: Box::new(receive),
            origin: Instant::now(),
        }))
    }

    /// A relay is connected, in place of an earlier connection. It is taken away by itself when the link ends. Needs a
    /// tokio runtime.
    pub fn connected(&self, relay: RelayId, datagrams: Datagrams) {
        let ids = Mutex::new(PieceIds::of_sender());
        let line = Arc::new(Line { datagrams, ids });
        write(&self.0.lines).insert(relay, line.clone());
        // The last one of a peer takes itself out of the table when it is dropped.
        let peers: Vec<_> = read(&self.0.peers).values().filter_map(Weak::upgrade).collect();
        peers.iter().for_each(|peer| peer.join_race(&line));
        let shared = self.0.clone();
        tokio::spawn(async move {
            shared.announce().await;
            while let Some(datagram) = line.datagrams.recv().await {
                shared.take(relay, &datagram);
            }
            {
                let mut lines = write(&shared.lines);
                if lines.get(&relay).is_some_and(|current| Arc::ptr_eq(current, &line)) {
                    lines.remove(&relay);
                }
            }
            shared.announce().await;
        });
    }

    /// What carries the packets of a peer over relays. There is one for each device: another call takes the place of the
    /// first. It is forgotten when it is dropped.
    pub fn carrier(&self, key: PublicKey, device: DeviceId) -> Arc<RelayCarrier> {
        let carrier = Arc::new(RelayCarrier {
            shared: Arc::downgrade(&self.0),
            key,
            device,
            relay: AtomicU32::new(RelayId::SERVER.0),
            is_steered: AtomicBool::new(false),
            races: AtomicBool::new(false),
            beside: RwLock::default(),
            initiation: Mutex::default(),
            wanted_at: AtomicU64::new(0),
            joiner: Mutex::default(),
        });
        write(&self.0.peers).insert(device, Arc::downgrade(&carrier));
        carrier
    }

    /// Sends what the paths want sent. It is lost if the relay is not connected.
    pub fn send(&self, relay: RelayId, to: DeviceId, payload: &[u8]) {
        if let Some(line) = self.0.line(relay) {
            line.send(to, payload);
        }
    }

    /// Sends a hint over every relay, while no link carries it.
    pub fn send_everywhere(&self, to: DeviceId, payload: &[u8]) {
        let lines: Vec<_> = read(&self.0.lines).values().cloned().collect();
        lines.iter().for_each(|line| line.send(to, payload));
    }

    /// How far one that is connected is, if that is measured. `None`: it is not connected.
    pub fn round_trip(&self, relay: RelayId) -> Option<Option<Duration>> {
        self.0.line(relay).map(|line| line.datagrams.round_trip())
    }

    /// Those that are connected, the nearest first.
    pub fn by_distance(&self) -> Vec<ConnectedRelay> {
        self.0.by_distance()
    }

    /// Which relays are connected.
    pub fn relays(&self) -> Vec<RelayId> {
        read(&self.0.lines).keys().copied().collect()
    }
}

impl fmt::Debug for Relays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relays({:?})", self.relays())
    }
}

impl Shared {
    fn line(&self, relay: RelayId) -> Option<Arc<Line>> {
        read(&self.lines).get(&relay).cloned()
    }

    fn by_distance(&self) -> Vec<ConnectedRelay> {
        let lines = read(&self.lines);
        let relay = |(id, line): (&RelayId, &Arc<Line>)| ConnectedRelay {
            id: *id,
            round_trip: line.datagrams.round_trip(),
        };
        let mut relays: Vec<_> = lines.iter().map(relay).collect();
        // What was not measured is taken for near: the server, where UDP is blocked.
        relays.sort_by_key(|relay| (relay.round_trip.unwrap_or_default(), relay.id));
        relays
    }

    async fn announce(&self) {
        let relays = self.by_distance();
        // An event loop that is gone needs no news.
        let _ = self.news.send(PathInput::Relays(relays)).await;
    }

    fn now(&self) -> Mono {
        Mono::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Takes a datagram of a relay. What is of no peer is dropped.
    fn take(&self, relay: RelayId, bytes: &[u8]) {
        let Some(relayed) = Relayed::parse(bytes) else { return };
        let peer = read(&self.peers).get(&relayed.device).and_then(Weak::upgrade);
        let Some(peer) = peer else { return };
        let Some(payload) = lock(&peer.joiner).take(&relayed, self.now()) else { return };
        if payload.first().is_some_and(|first| WIREGUARD.contains(first)) {
            peer.came_over(relay);
            (self.receive)(relayed.device, &payload);
        } else {
            let from = relayed.device;
            // The paths ask again for what is lost here.
            let _ = self.news.try_send(PathInput::Relayed { relay, from, bytes: payload.into_owned() });
        }
    }
}

/// The packets of one peer over a relay.
pub struct RelayCarrier {
    shared: Weak<Shared>,
    key: PublicKey,
    device: DeviceId,
    relay: AtomicU32,
    /// The relay was chosen for this peer. Else what comes from it is answered over the relay by which it came.
    is_steered: AtomicBool,
    /// Packets go over every relay.
    races: AtomicBool,
    /// Takes them, too.
    beside: RwLock<Option<Arc<dyn Carrier>>>,
    /// The last handshake that was begun, and when: it is begun again only after five seconds.
    initiation: Mutex<Option<Initiation>>,
    /// When the paths were told last that packets go here, in microseconds; 0 is never.
    wanted_at: AtomicU64,
    joiner: Mutex<Joiner>,
}

/// A handshake that was begun.
struct Initiation {
    at: Mono,
    message: Vec<u8>,
    /// A relay carried it.
    is_sent: bool,
}

impl RelayCarrier {
    /// Packets go over this relay from now on; at first over the server. Unless it was chosen for this peer (`is_steered`), they
    /// go over the one by which the peer's come.
    pub fn set_relay(&self, relay: RelayId, is_steered: bool) {
        self.relay.store(relay.0, Ordering::Relaxed);
        self.is_steered.store(is_steered, Ordering::Relaxed);
        if let Some(line) = self.shared.upgrade().and_then(|shared| shared.line(relay)) {
            self.begin_again(&line, false);
        }
    }

    /// Packets go over every relay that is connected from now on, beginning with the last handshake; or no longer. Who gets one
    /// twice drops it (WireGuard paper, sections 5.1 and 5.4.6).
    pub fn race(&self, on: bool) {
        let begins = !self.races.swap(on, Ordering::Relaxed) && on;
        if let Some(shared) = self.shared.upgrade().filter(|_| begins) {
            read(&shared.lines).values().for_each(|line| self.join_race(line));
        }
    }

    /// Packets go by this one as well from now on; `None`: no longer.
    pub fn set_beside(&self, beside: Option<Arc<dyn Carrier>>) {
        *write(&self.beside) = beside;
    }

    /// A relay that is connected while relays are raced carries the handshake, too; while there was none, in any case.
    fn join_race(&self, line: &Line) {
        self.begin_again(line, self.races.load(Ordering::Relaxed));
    }

    /// Sends the last handshake over a relay, if none carried it, or anew.
    fn begin_again(&self, line: &Line, anew: bool) {
        let Some(shared) = self.shared.upgrade() else { return };
        if let Some(initiation) = &mut *lock(&self.initiation)
            && (anew || !initiation.is_sent)
            && shared.now().since(initiation.at) < INITIATION_LIFE
        {
            line.send(self.device, &initiation.message);
            initiation.is_sent = true;
        }
    }

    fn came_over(&self, relay: RelayId) {
        if !self.is_steered.load(Ordering::Relaxed) {
            self.relay.store(relay.0, Ordering::Relaxed);
        }
    }

    fn tell_wanted(&self, shared: &Shared) {
        let now = shared.now().as_micros().max(1);
        let told_at = self.wanted_at.load(Ordering::Relaxed);
        let interval = u64::try_from(WANTED_INTERVAL.as_micros()).expect("a second");
        if told_at != 0 && now - told_at.min(now) < interval {
            return;
        }
        if shared.news.try_send(PathInput::Wanted(self.key)).is_ok() {
            self.wanted_at.store(now, Ordering::Relaxed);
        }
    }
}

impl Drop for RelayCarrier {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut peers = write(&shared.peers);
        // Another one may be the device's by now.
        if peers.get(&self.device).is_some_and(|peer| peer.strong_count() == 0) {
            peers.remove(&self.device);
        }
    }
}

impl Carrier for RelayCarrier {
    fn send(&self, messages: &mut dyn Iterator<Item = &[u8]>) {
        let Some(shared) = self.shared.upgrade() else { return };
        self.tell_wanted(&shared);
        let lines: Vec<Arc<Line>> = if self.races.load(Ordering::Relaxed) {
            read(&shared.lines).values().cloned().collect()
        } else {
            shared.line(RelayId(self.relay.load(Ordering::Relaxed))).into_iter().collect()
        };
        let beside = read(&self.beside).clone();
        for message in messages {
            if let Some(beside) = &beside {
                beside.send(&mut std::iter::once(message));
            }
            if message.first() == Some(&INITIATION) {
                let (at, message, is_sent) = (shared.now(), message.to_vec(), !lines.is_empty());
                *lock(&self.initiation) = Some(Initiation { at, message, is_sent });
            }
            lines.iter().for_each(|line| line.send(self.device, message));
        }
    }

    fn name(&self) -> &str {
        "relay"
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

//! What the threads of a device share: interface, sockets, key and peers, changed by [`Update`]s. Knows no packet
//! formats, and not what each thread does.
//!
//! Locks are taken in this order, and none is held over a system call but the binding of sockets: settings, table, one
//! peer, then the wheel. Threads read sockets, key, routes and sessions without a lock.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use chacha::Cipher;
use model::{PrivateKey, PublicKey};
use nix::sys::eventfd::{EfdFlags, EventFd};
use wireguard::load::UNCHALLENGED_PER_SECOND_MAX;
use wireguard::noise::Local;
use wireguard::{KeyPair, Time, Wants};

use crate::clock::{self, Clock};
use crate::io::tun::Tun;
use crate::io::udp::{Offload, Sockets};
use crate::offload::Joins;
use crate::path::{Carried, Carrier, Path, Probe};
use crate::peer::{Peer, Session};
use crate::routes::Routes;
use crate::slab::Slab;
use crate::state::{DeviceState, PeerState};
use crate::table::Table;
use crate::task::Task;
use crate::update::{ApplyError, PeerUpdate, Update};
use crate::wheel::Wheel;

/// Between two handshakes that the owner asks for: so many that their answers, and half as many other handshakes,
/// are below what makes the device ask for cookies.
const BEGIN_INTERVAL: Duration = Duration::from_micros(1_500_000 / UNCHALLENGED_PER_SECOND_MAX as u64);
/// Datagrams of carriers that wait.
const CARRIED_MAX: usize = 256;
/// UDP carries no longer ones (RFC 768), so no message is.
const CARRIED_BYTES_MAX: usize = 65_535;

/// The one thing that every thread of a device holds.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) cipher: Cipher,
    pub(crate) name: String,
    pub(crate) tun: Tun,
    pub(crate) sockets: ArcSwap<Sockets>,
    pub(crate) routes: ArcSwap<Routes<Arc<Peer>>>,
    pub(crate) sessions: Arc<Slab<Session>>,
    pub(crate) wheel: Wheel,
    local: ArcSwapOption<Local>,
    table: Mutex<Table>,
    settings: Mutex<Settings>,
    tasks: SyncSender<Task>,
    carried_queue: Mutex<VecDeque<Carried>>,
    /// What the interface takes joined.
    pub(crate) joins: Joins,
    probe: Option<Probe>,
    udp_offload: Offload,
    /// When the next handshake that the owner asks for may begin.
    begin: Mutex<Time>,
    /// Readable from the moment on at which the sockets are others, until the thread that reads them saw it.
    pub(crate) rebound: EventFd,
    /// Readable while carriers brought something.
    pub(crate) carried: EventFd,
    /// Readable for ever from the moment on at which the threads must end.
    pub(crate) halted: EventFd,
    is_halted: AtomicBool,
}

/// Held while an update is applied.
struct Settings {
    private_key: Option<PrivateKey>,
    /// The mark in use.
    fwmark: u32,
}

/// What [`Shared`] is made of.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) tun: Tun,
    pub(crate) sockets: Sockets,
    pub(crate) fwmark: u32,
    pub(crate) joins: Joins,
    pub(crate) udp_offload: Offload,
    pub(crate) cipher: Cipher,
    pub(crate) probe: Option<Probe>,
    pub(crate) tasks: SyncSender<Task>,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let event = || EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let clock = Clock::start();
        Ok(Self {
            clock,
            cipher: parts.cipher,
            name: parts.name,
            tun: parts.tun,
            sockets: ArcSwap::from_pointee(parts.sockets),
            routes: ArcSwap::from_pointee(Routes::new()),
            sessions: Slab::new(),
            wheel: Wheel::default(),
            local: ArcSwapOption::empty(),
            table: Mutex::new(Table::new()),
            settings: Mutex::new(Settings { private_key: None, fwmark: parts.fwmark }),
            tasks: parts.tasks,
            carried_queue: Mutex::default(),
            joins: parts.joins,
            probe: parts.probe,
            udp_offload: parts.udp_offload,
            begin: Mutex::new(clock.now()),
            rebound: event()?,
            carried: event()?,
            halted: event()?,
            is_halted: AtomicBool::new(false),
        })
    }

    /// Ends all threads.
    pub(crate) fn halt(&self) {
        self.is_halted.store(true, Ordering::SeqCst);
        signal(&self.halted);
        self.work(Task::Look);
    }

    /// Ends all sessions for good. Peers and receiver indices point at each other; without this nobody would let go.
    pub(crate) fn let_go(&self) {
        self.table().take_all().iter().for_each(|peer| peer.lock().remove());
        self.wheel.clear();
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.is_halted.load(Ordering::SeqCst)
    }

    /// Whether the device is of no use any more, also before its threads have seen that.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_halted() || self.tun.is_gone()
    }

    /// Our key, if there is one.
    pub(crate) fn local(&self) -> Option<Arc<Local>> {
        self.local.load_full()
    }

    pub(crate) fn find(&self, key: &PublicKey) -> Option<Arc<Peer>> {
        self.table().find(key)
    }

    pub(crate) fn peer_state(&self, key: &PublicKey) -> Option<PeerState> {
        self.table().state(key)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the control thread something to do. False if it has too much to do already, and the task is lost.
    pub(crate) fn work(&self, task: Task) -> bool {
        self.tasks.try_send(task).is_ok()
    }

    /// Does what a packet of the peer asks for.
    pub(crate) fn follow(&self, peer: &Arc<Peer>, wants: Wants) {
        if wants.handshake {
            self.ask_handshake(peer);
        }
        if let Some(at) = wants.look_at
            && self.wheel.arm(peer, at)
        {
            // If the queue is full, the thread is awake.
            self.work(Task::Look);
        }
    }

    /// Has the control thread look at a peer that wants a session.
    pub(crate) fn ask_handshake(&self, peer: &Arc<Peer>) {
        if peer.ask() && !self.work(Task::Peer(Arc::clone(peer))) {
            // Looked at a moment later, by the wheel.
            peer.answer();
            self.wheel.arm(peer, self.clock.now());
        }
    }

    /// Makes sure that the peer is looked at when its next deadline comes.
    pub(crate) fn arm(&self, peer: &Arc<Peer>) {
        self.follow(peer, Wants { handshake: false, look_at: peer.machine().deadline() });
    }

    /// The peer has shown that it has the keys of a session that we answered.
    #[cold]
    pub(crate) fn confirm(&self, peer: &Arc<Peer>, pair: &Arc<KeyPair>) {
        if peer.lock().confirm(pair, clock::wall()) {
            self.ask_handshake(peer);
        }
    }

    /// Gives the owner what is not WireGuard's.
    #[cold]
    pub(crate) fn probe(&self, message: &[u8], from: &Path) {
        if let (Some(probe), Path::Udp(endpoint)) = (&self.probe, from) {
            probe.take(message, endpoint.remote);
        }
    }

    /// A carrier brought a datagram. It is lost if too many wait, or if it is too long.
    pub(crate) fn carry(&self, carrier: &Arc<dyn Carrier>, datagram: &[u8]) {
        if datagram.len() > CARRIED_BYTES_MAX {
            tracing::trace!(from = carrier.name(), bytes = datagram.len(), "datagram too long");
            return;
        }
        let mut queue = self.carried_queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() < CARRIED_MAX {
            queue.push_back(Carried { by: Arc::clone(carrier), datagram: datagram.into() });
            signal(&self.carried);
        }
    }

    /// What a carrier brought first.
    pub(crate) fn take_carried(&self) -> Option<Carried> {
        let mut queue = self.carried_queue.lock().unwrap_or_else(PoisonError::into_inner);
        let first = queue.pop_front();
        if first.is_none()
            && let Err(error) = self.carried.read()
            && error != nix::errno::Errno::EAGAIN
        {
            tracing::debug!(%error, "the event cannot be read");
        }
        first
    }

    /// The device and its peers now.
    pub(crate) fn snapshot(&self) -> DeviceState {
        let settings = self.settings();
        DeviceState {
            name: self.name.clone(),
            private_key: settings.private_key.clone(),
            listen_port: self.sockets.load().port(),
            fwmark: settings.fwmark,
            peers: self.table().states(),
        }
    }

    /// Changes what the update says, whole or not at all: what can fail comes first.
    pub(crate) fn apply(&self, update: Update) -> Result<(), ApplyError> {
        let mut settings = self.settings();
        if self.is_gone() {
            return Err(ApplyError::Gone);
        }
        let mark = update.fwmark.unwrap_or(settings.fwmark);
        let sockets = self.sockets.load_full();
        match update.listen_port {
            Some(port) if port != sockets.port() => {
                let bound = Sockets::bind(port, mark, self.udp_offload)
                    .map_err(|source| ApplyError::Port { port, source })?;
                self.sockets.store(Arc::new(bound));
                signal(&self.rebound);
            }
            _ if mark != settings.fwmark => {
                sockets.mark(mark).map_err(|source| ApplyError::Mark { mark, source })?;
            }
            _ => {}
        }
        settings.fwmark = mark;
        if let Some(private_key) = update.private_key {
            self.set_private_key(&mut settings, private_key);
        }
        if update.replace_peers {
            let removed = self.table().take_all();
            removed.iter().for_each(|peer| self.retire(peer));
        }
        let own = settings.private_key.as_ref().map(PrivateKey::public);
        for peer in update.peers {
            self.apply_peer(peer, own);
        }
        self.routes.store(Arc::new(self.table().routes()));
        Ok(())
    }

    /// Begins a handshake as soon as its turn comes; see [`crate::Device::begin_handshake`].
    pub(crate) fn begin_handshake(&self, key: &PublicKey) -> bool {
        let Some(peer) = self.find(key).filter(|peer| peer.has_path()) else { return false };
        let mut next = self.begin.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.clock.now().max(*next);
        let begins = peer.lock().begin(at);
        if begins == Some(at) {
            *next = at + BEGIN_INTERVAL;
            self.arm(&peer);
        }
        begins.is_some()
    }

    /// Sessions belong to the key that made them. A peer cannot have the device's own.
    fn set_private_key(&self, settings: &mut Settings, private_key: Option<PrivateKey>) {
        if settings.private_key == private_key {
            return;
        }
        let own = private_key.as_ref().map(PrivateKey::public);
        self.local.store(private_key.as_ref().map(|key| Arc::new(Local::new(key))));
        settings.private_key = private_key;
        // Who makes a session from here on has the new key: the key is read under the peer's lock.
        self.table().each().for_each(|peer| peer.lock().forget_keys());
        if let Some(peer) = own.and_then(|key| self.table().remove(&key)) {
            self.retire(&peer);
        }
    }

    /// Ends what a peer that left the table still has.
    fn retire(&self, peer: &Peer) {
        peer.lock().remove();
        self.wheel.disarm(peer);
    }

    fn apply_peer(&self, update: PeerUpdate, own: Option<PublicKey>) {
        if update.remove {
            let removed = self.table().remove(&update.key);
            removed.iter().for_each(|peer| self.retire(peer));
            return;
        }
        if own == Some(update.key) {
            return;
        }
        let mut table = self.table();
        let peer = match table.find(&update.key) {
            Some(peer) => peer,
            None if update.update_only => return,
            None => table.find_or_add(update.key),
        };
        if update.replace_allowed_ips {
            table.disallow_all(&peer);
        }
        update.disallowed_ips.iter().for_each(|net| table.disallow(&peer, *net));
        update.allowed_ips.iter().for_each(|net| table.allow(&peer, *net));
        drop(table);
        let waited = peer.waits_for_way();
        if let Some(remote) = update.endpoint {
            peer.set_remote(remote);
        }
        let mut machine = peer.lock();
        if let Some(key) = update.preshared_key {
            machine.set_preshared_key(key.map(|key| key.expose()).as_deref());
        }
        if let Some(seconds) = update.keepalive_seconds {
            machine.set_keepalive_seconds(seconds, self.clock.now());
        }
        drop(machine);
        self.arm(&peer);
        if waited {
            self.begin_handshake(&update.key);
        }
    }
}

/// An event that is signalled already stays signalled; there is no other way to fail.
fn signal(event: &EventFd) {
    if let Err(error) = event.write(1) {
        tracing::debug!(%error, "the event is signalled already");
    }
}

#[cfg(test)]
impl Shared {
    /// What a device shares that has no threads, and what is to do.
    pub(crate) fn alone() -> (Arc<Self>, std::sync::mpsc::Receiver<Task>) {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
        let (inner, _) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).expect("a pair");
        let udp_offload = Offload { gso: false, gro: false };
        let (tasks, to_do) = std::sync::mpsc::sync_channel(crate::task::TASKS_MAX);
        let parts = Parts {
            name: "alone".to_owned(),
            tun: Tun::over(inner, 1420).expect("a descriptor"),
            sockets: Sockets::bind(0, 0, udp_offload).expect("a port"),
            fwmark: 0,
            joins: Joins { tcp: false, udp: false },
            udp_offload,
            cipher: Cipher::Reference,
            probe: None,
            tasks,
        };
        (Arc::new(Self::new(parts).expect("events")), to_do)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl Carrier for Nowhere {
        fn send(&self, _: &mut dyn Iterator<Item = &[u8]>) {}

        fn name(&self) -> &str {
            "nowhere"
        }
    }

    #[test]
    fn what_a_carrier_brings_is_bounded() {
        let (shared, _to_do) = Shared::alone();
        let carrier: Arc<dyn Carrier> = Arc::new(Nowhere);
        for bytes in [CARRIED_BYTES_MAX + 1, CARRIED_BYTES_MAX] {
            shared.carry(&carrier, &vec![4; bytes]);
        }
        assert_eq!(shared.take_carried().map(|carried| carried.datagram.len()), Some(CARRIED_BYTES_MAX));
        assert!(shared.take_carried().is_none());
        (0..=CARRIED_MAX).for_each(|_| shared.carry(&carrier, &[4]));
        assert_eq!(std::iter::from_fn(|| shared.take_carried()).count(), CARRIED_MAX);
    }

    #[test]
    fn asking_again_for_a_handshake_does_not_put_it_off_nor_others_behind_it() {
        let (shared, _to_do) = Shared::alone();
        let keys = [1, 2].map(|byte| PrivateKey::from_bytes([byte; 32]).public());
        let [first, second] = keys.map(|key| shared.table().find_or_add(key));
        for peer in [&first, &second] {
            peer.set_remote(([192, 0, 2, 1], 51820).into());
        }
        assert!(shared.begin_handshake(&keys[0]));
        let due = first.machine().deadline().expect("it begins");
        assert!((0..1000).all(|_| shared.begin_handshake(&keys[0])) && shared.begin_handshake(&keys[1]));
        assert_eq!(first.machine().deadline(), Some(due));
        let next = second.machine().deadline().expect("it begins");
        assert!(next <= (due + BEGIN_INTERVAL).max(shared.clock.now()));
    }
}

//! What the threads of a device share: interface, sockets, key and peers, changed by [`Update`]s. Knows no packet
//! formats, and not what each thread does.
//!
//! Locks are taken in this order, and none is held over a system call: settings, peers, the next turn, one session,
//! then the indices or the timers. Threads read the sockets and the key without a lock.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use model::{PrivateKey, PublicKey};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::identity::Identity;
use crate::indices::Indices;
use crate::load::UNCHALLENGED_PER_SECOND_MAX;
use crate::peer::{Peer, Session};
use crate::sockets::Sockets;
use crate::state::DeviceState;
use crate::table::Peers;
use crate::timers::Timers;
use crate::tun::Tun;
use crate::update::{ApplyError, PeerUpdate, Update};

/// Between two handshakes that the owner asks for: so many that their answers, and half as many other handshakes,
/// are below what makes the device ask for cookies.
const BEGIN_INTERVAL: Duration = Duration::from_micros(1_500_000 / UNCHALLENGED_PER_SECOND_MAX as u64);

/// The one thing that every thread of a device holds.
pub(crate) struct Shared {
    pub(crate) tun: Tun,
    pub(crate) sockets: ArcSwap<Sockets>,
    identity: ArcSwapOption<Identity>,
    peers: RwLock<Peers>,
    pub(crate) indices: Arc<Indices<Arc<Peer>>>,
    pub(crate) timers: Timers<(Instant, Arc<Peer>)>,
    /// When the next handshake that the owner asks for may begin.
    begin: Mutex<Instant>,
    /// The mark in use; held while an update is applied.
    fwmark: Mutex<u32>,
    /// Readable from the moment on at which the sockets are others, until the thread that reads them saw it.
    pub(crate) rebound: EventFd,
    /// Readable for ever from the moment on at which the threads must end.
    pub(crate) halted: EventFd,
    is_halted: AtomicBool,
}

impl Shared {
    pub(crate) fn new(tun: Tun, sockets: Sockets, fwmark: u32) -> io::Result<Self> {
        let event = || EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        Ok(Self {
            tun,
            sockets: ArcSwap::from_pointee(sockets),
            identity: ArcSwapOption::empty(),
            peers: RwLock::new(Peers::new()),
            indices: Arc::new(Indices::new()),
            timers: Timers::new(),
            begin: Mutex::new(Instant::now()),
            fwmark: Mutex::new(fwmark),
            rebound: event()?,
            halted: event()?,
            is_halted: AtomicBool::new(false),
        })
    }

    /// Ends all threads.
    pub(crate) fn halt(&self) {
        self.is_halted.store(true, Ordering::SeqCst);
        signal(&self.halted);
        self.timers.stop();
    }

    /// Ends all sessions for good. Machines and indices point at each other; without this nobody would let go.
    pub(crate) fn let_go(&self) {
        self.peers_mut().take_all().iter().for_each(|peer| peer.lock().remove());
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.is_halted.load(Ordering::SeqCst)
    }

    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.load_full()
    }

    pub(crate) fn peers(&self) -> RwLockReadGuard<'_, Peers> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers_mut(&self) -> RwLockWriteGuard<'_, Peers> {
        self.peers.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that the peer is woken at its next deadline. Does nothing if it is woken before that anyway.
    pub(crate) fn schedule(&self, peer: &Arc<Peer>, session: &mut Session, now: Instant) {
        let Some(at) = session.deadline(now) else { return };
        if session.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(due) = session.due.replace(at) {
            self.timers.cancel(due, peer.number);
        }
        self.timers.add(at, peer.number, (at, Arc::clone(peer)));
    }

    /// The device and its peers now.
    pub(crate) fn snapshot(&self) -> DeviceState {
        let fwmark = *self.fwmark.lock().unwrap_or_else(PoisonError::into_inner);
        DeviceState {
            name: self.tun.name().to_owned(),
            private_key: self.identity().map(|identity| identity.private.clone()),
            listen_port: self.sockets.load().port(),
            fwmark,
            peers: self.peers().states(),
        }
    }

    /// Changes what the update says, whole or not at all: what can fail comes first.
    pub(crate) fn apply(&self, update: Update) -> Result<(), ApplyError> {
        let mut fwmark = self.fwmark.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_halted() {
            return Err(ApplyError::Gone);
        }
        let mark = update.fwmark.unwrap_or(*fwmark);
        let sockets = self.sockets.load_full();
        match update.listen_port {
            Some(port) if port != sockets.port() => {
                let bound = Sockets::bind(port, mark).map_err(|source| ApplyError::Port { port, source })?;
                self.sockets.store(Arc::new(bound));
                signal(&self.rebound);
            }
            _ if mark != *fwmark => {
                sockets.mark(mark).map_err(|source| ApplyError::Mark { mark, source })?;
            }
            _ => {}
        }
        *fwmark = mark;
        if let Some(private_key) = update.private_key {
            self.set_private_key(private_key);
        }
        if update.replace_peers {
            let removed = self.peers_mut().take_all();
            removed.iter().for_each(|peer| self.retire(peer));
        }
        for peer in update.peers {
            self.apply_peer(peer);
        }
        Ok(())
    }

    /// Begins a handshake as soon as its turn comes; see [`crate::Device::begin_handshake`].
    pub(crate) fn begin_handshake(&self, key: &PublicKey) -> bool {
        let Some(peer) = self.peers().find(key) else { return false };
        let now = Instant::now();
        let mut next = self.begin.lock().unwrap_or_else(PoisonError::into_inner);
        let at = now.max(*next);
        let mut session = peer.lock();
        let begins = session.begin(at);
        if begins {
            *next = at + BEGIN_INTERVAL;
            self.schedule(&peer, &mut session, now);
        }
        begins
    }

    /// Sessions belong to the key that made them. A peer cannot have the device's own.
    fn set_private_key(&self, private_key: Option<PrivateKey>) {
        if self.identity().as_ref().map(|identity| &identity.private) == private_key.as_ref() {
            return;
        }
        let identity = private_key.map(|key| Arc::new(Identity::new(key)));
        let own = identity.as_ref().map(|identity| identity.key);
        self.identity.store(identity);
        // A machine that another thread makes from here on has the new key: the key is read under the session's lock.
        self.peers().each().for_each(|peer| peer.lock().forget_keys());
        if let Some(peer) = own.and_then(|key| self.peers_mut().remove(&key)) {
            self.retire(&peer);
        }
    }

    /// Ends what a peer that left the table still has.
    fn retire(&self, peer: &Peer) {
        let mut session = peer.lock();
        session.remove();
        if let Some(due) = session.due.take() {
            self.timers.cancel(due, peer.number);
        }
    }

    fn apply_peer(&self, update: PeerUpdate) {
        if update.remove {
            let removed = self.peers_mut().remove(&update.key);
            removed.iter().for_each(|peer| self.retire(peer));
            return;
        }
        if self.identity().is_some_and(|identity| identity.key == update.key) {
            return;
        }
        let mut peers = self.peers_mut();
        let peer = match peers.find(&update.key) {
            Some(peer) => peer,
            None if update.update_only => return,
            None => peers.find_or_add(update.key),
        };
        if update.replace_allowed_ips {
            peers.disallow_all(&peer);
        }
        update.disallowed_ips.iter().for_each(|net| peers.disallow(&peer, *net));
        update.allowed_ips.iter().for_each(|net| peers.allow(&peer, *net));
        drop(peers);
        let mut session = peer.lock();
        if let Some(key) = update.preshared_key {
            session.set_preshared_key(key);
        }
        if let Some(remote) = update.endpoint {
            session.set_remote(remote);
        }
        if let Some(seconds) = update.keepalive_seconds {
            session.set_keepalive(seconds);
        }
        self.schedule(&peer, &mut session, Instant::now());
    }
}

/// An event that is signalled already stays signalled; there is no other way to fail.
fn signal(event: &EventFd) {
    if let Err(error) = event.write(1) {
        tracing::debug!(%error, "the event is signalled already");
    }
}

//! The device: interface, sockets, peers and threads, changed by [`Update`]s. Knows no packet formats.
//!
//! Locks are taken in this order, and none is held over a system call: settings, peers, one session, then the
//! indices or the timers. Threads read the sockets and the key without a lock.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519;
use model::limits::MTU_DEFAULT;
use model::{PrivateKey, PublicKey};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::inbound::Inbound;
use crate::outbound::{self, Outbound};
use crate::peer::{Peer, Session};
use crate::sockets::Sockets;
use crate::state::{DeviceState, PeerState};
use crate::table::{Indices, Peers};
use crate::timers::Timers;
use crate::tun::Tun;
use crate::uapi::server::Server;
use crate::update::{PeerUpdate, Update};

/// Stack of each thread; packets are on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// How a device is made; all of it but the directory can be changed afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// MTU of the interface in bytes, 68 to 65535.
    pub mtu: u16,
    /// UDP port; 0 chooses a free one.
    pub listen_port: u16,
    /// `SO_MARK` of what is sent; 0 is none.
    pub fwmark: u32,
    /// Where `wg` finds the device's socket, see [`crate::UAPI_DIRECTORY`]. `None`: nowhere.
    pub uapi_directory: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { mtu: MTU_DEFAULT, listen_port: 0, fwmark: 0, uapi_directory: None }
    }
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The interface: its name is unusable or taken, or `CAP_NET_ADMIN` or `/dev/net/tun` is missing.
    #[error("interface {name} cannot be made")]
    Interface {
        /// As asked for.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The UDP sockets.
    #[error("udp port {port} cannot be bound")]
    Port {
        /// As asked for.
        port: u16,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The socket for `wg`.
    #[error("socket {path} cannot be made")]
    Uapi {
        /// The socket's path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The machine has no thread or event descriptor left.
    #[error("threads cannot be started")]
    Threads(#[source] io::Error),
}

/// Why an update was refused. Nothing of it was applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The UDP port is taken, or may not be used.
    #[error("udp port {port} cannot be bound")]
    Port {
        /// As asked for.
        port: u16,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// `SO_MARK` needs `CAP_NET_ADMIN`.
    #[error("mark {mark} cannot be set")]
    Mark {
        /// As asked for.
        mark: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody deleted the interface.
    #[error("the interface is gone")]
    Gone,
}

impl ApplyError {
    /// The error number that answers `wg` (errno(3)).
    pub fn errno(&self) -> i32 {
        match self {
            Self::Port { source, .. } | Self::Mark { source, .. } => {
                source.raw_os_error().unwrap_or(nix::libc::EIO)
            }
            Self::Gone => nix::libc::ENODEV,
        }
    }
}

/// A running device. Dropping it ends its threads and removes the interface, the sockets and all sessions.
pub struct Device {
    shared: Arc<Shared>,
    server: Option<Server>,
    threads: Vec<JoinHandle<()>>,
}

impl Device {
    /// Makes the interface and the sockets in the network namespace of the calling thread. The interface is down
    /// and has no address: that is the caller's to do.
    pub fn create(name: &str, config: Config) -> Result<Self, DeviceError> {
        let tun = Tun::create(name, config.mtu)
            .map_err(|source| DeviceError::Interface { name: name.to_owned(), source })?;
        let sockets = Sockets::bind(config.listen_port, config.fwmark)
            .map_err(|source| DeviceError::Port { port: config.listen_port, source })?;
        let shared = Arc::new(Shared::new(tun, sockets, config.fwmark).map_err(DeviceError::Threads)?);
        let mut device = Self { shared: Arc::clone(&shared), server: None, threads: Vec::new() };
        let mut outbound = Outbound::new(Arc::clone(&shared));
        device.start("wg-out", move || outbound.run())?;
        let mut inbound = Inbound::new(Arc::clone(&shared));
        device.start("wg-in", move || inbound.run())?;
        device.start("wg-time", move || outbound::keep_time(&shared))?;
        if let Some(directory) = config.uapi_directory {
            let path = directory.join(format!("{name}.sock"));
            let server = Server::start(&path, Arc::clone(&device.shared));
            device.server = Some(server.map_err(|source| DeviceError::Uapi { path, source })?);
        }
        Ok(device)
    }

    fn start(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), DeviceError> {
        let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        self.threads.push(builder.spawn(run).map_err(DeviceError::Threads)?);
        Ok(())
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        self.shared.tun.name()
    }

    /// Changes what the update says. A change of one peer costs the same with ten peers and with ten thousand.
    ///
    /// # Errors
    /// The update is applied whole or not at all. A new port is bound in the caller's network namespace.
    pub fn apply(&self, update: Update) -> Result<(), ApplyError> {
        self.shared.apply(update)
    }

    /// Everything, with all peers.
    pub fn snapshot(&self) -> DeviceState {
        self.shared.snapshot()
    }

    /// One peer, without a walk over the others.
    pub fn peer(&self, key: &PublicKey) -> Option<PeerState> {
        self.shared.peers().state(key)
    }

    /// The device's public key, if it was told a private one.
    pub fn public_key(&self) -> Option<PublicKey> {
        self.shared.identity().map(|identity| identity.key)
    }

    /// UDP port that the device listens on.
    pub fn listen_port(&self) -> u16 {
        self.shared.sockets.load().port()
    }

    /// Whether somebody deleted the interface. The device does nothing any more; drop it and make another.
    pub fn is_gone(&self) -> bool {
        self.shared.is_halted()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.shared.halt();
        self.server = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(interface = self.shared.tun.name(), "a thread of the device panicked");
            }
        }
        // Machines and indices point at each other; without this nobody would let go.
        self.shared.peers_mut().take_all().iter().for_each(|peer| peer.lock().remove());
    }
}

/// The device's key and what follows from it.
pub(crate) struct Identity {
    private: PrivateKey,
    pub(crate) key: PublicKey,
    pub(crate) secret: x25519::StaticSecret,
    pub(crate) public: x25519::PublicKey,
    /// Checks the first MAC.
    pub(crate) unlimited: Arc<RateLimiter>,
    /// Checks both, and answers with a cookie when the second is missing.
    pub(crate) challenging: RateLimiter,
}

impl Identity {
    pub(crate) fn new(private: PrivateKey) -> Self {
        let secret = x25519::StaticSecret::from(*private.expose());
        let public = x25519::PublicKey::from(&secret);
        Self {
            key: private.public(),
            secret,
            public,
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
            challenging: RateLimiter::new(&public, 0),
            private,
        }
    }
}

/// What the threads share.
pub(crate) struct Shared {
    pub(crate) tun: Tun,
    pub(crate) sockets: ArcSwap<Sockets>,
    identity: ArcSwapOption<Identity>,
    peers: RwLock<Peers>,
    pub(crate) indices: Arc<Indices>,
    pub(crate) timers: Timers<(Instant, Arc<Peer>)>,
    /// The mark in use; held while an update is applied.
    fwmark: Mutex<u32>,
    /// Readable from the moment on at which the sockets are others, until the thread that reads them saw it.
    pub(crate) rebound: EventFd,
    /// Readable for ever from the moment on at which the threads must end.
    pub(crate) halted: EventFd,
    is_halted: AtomicBool,
}

impl Shared {
    fn new(tun: Tun, sockets: Sockets, fwmark: u32) -> io::Result<Self> {
        let event = || EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        Ok(Self {
            tun,
            sockets: ArcSwap::from_pointee(sockets),
            identity: ArcSwapOption::empty(),
            peers: RwLock::new(Peers::new()),
            indices: Arc::default(),
            timers: Timers::new(),
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

    /// See [`Device::apply`]. What can fail comes first.
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

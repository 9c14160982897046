//! One peer of a device: the protocol's machine, its path and its counters. Knows no thread and no other peer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapOption, Guard};
use model::PublicKey;
use wireguard::{KeyPair, Locked};

use crate::io::udp::Endpoint;
use crate::path::Path;
use crate::slab::{self, Slab};

/// A receiver index in use, and what it stands for.
pub(crate) struct Lease {
    index: slab::Lease<Session>,
    session: Arc<Session>,
}

/// What a receiver index stands for: a handshake of a peer, and the session that it leads to.
pub(crate) struct Session {
    pub(crate) peer: Arc<Peer>,
    pub(crate) pair: OnceLock<Arc<KeyPair>>,
}

impl Lease {
    /// `None` if all indices are in use.
    pub(crate) fn new(sessions: &Arc<Slab<Session>>, peer: &Arc<Peer>, random: u32) -> Option<Self> {
        let session = Arc::new(Session { peer: Arc::clone(peer), pair: OnceLock::new() });
        Some(Self { index: sessions.insert(Arc::clone(&session), random)?, session })
    }
}

impl wireguard::Lease for Lease {
    fn index(&self) -> u32 {
        self.index.index()
    }

    fn publish(&self, pair: &Arc<KeyPair>) {
        let first = self.session.pair.set(Arc::clone(pair));
        debug_assert!(first.is_ok(), "an index is for one session");
    }
}

/// A peer.
pub(crate) struct Peer {
    pub(crate) key: PublicKey,
    /// Orders deadlines that fall together.
    pub(crate) number: u64,
    machine: wireguard::Peer<Lease>,
    path: ArcSwapOption<Path>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    /// A handshake was asked for and not looked at yet.
    asked: AtomicBool,
    /// The deadline in the wheel in nanoseconds, `u64::MAX` for none; changed under the wheel's lock.
    pub(crate) due: AtomicU64,
}

impl Peer {
    pub(crate) fn new(key: PublicKey, number: u64, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            key,
            number,
            machine: wireguard::Peer::new(seed),
            path: ArcSwapOption::empty(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            due: AtomicU64::new(u64::MAX),
        })
    }

    pub(crate) fn machine(&self) -> &wireguard::Peer<Lease> {
        &self.machine
    }

    pub(crate) fn lock(&self) -> Locked<'_, Lease> {
        self.machine.lock()
    }

    pub(crate) fn path(&self) -> Option<Arc<Path>> {
        self.path.load_full()
    }

    /// As [`Self::path`], not to be kept.
    pub(crate) fn path_now(&self) -> Guard<Option<Arc<Path>>> {
        self.path.load()
    }

    pub(crate) fn has_path(&self) -> bool {
        self.path.load().is_some()
    }

    /// Packets go there from now on.
    pub(crate) fn set_remote(&self, remote: SocketAddr) {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let is_known =
            self.path.load().as_ref().and_then(|path| path.udp()).is_some_and(|e| e.remote == remote);
        if !is_known {
            self.set_path(Path::Udp(Endpoint { remote, local: None }));
        }
    }

    pub(crate) fn set_path(&self, path: Path) {
        self.path.store(Some(Arc::new(path)));
    }

    /// An authentic message came from there, so that is where the peer is.
    pub(crate) fn heard(&self, from: &Path) {
        if self.path.load().as_deref() != Some(from) {
            tracing::debug!(peer = %self.key, %from, "peer is elsewhere");
            self.path.store(Some(Arc::new(from.clone())));
        }
    }

    /// The kernel chooses our address of the path anew.
    pub(crate) fn forget_local(&self) {
        if let Some(Endpoint { remote, local: Some(_) }) =
            self.path.load().as_ref().and_then(|path| path.udp())
        {
            self.path.store(Some(Arc::new(Path::Udp(Endpoint { remote, local: None }))));
        }
    }

    pub(crate) fn count_received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn count_sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Bytes received and sent.
    pub(crate) fn counted(&self) -> (u64, u64) {
        (self.received_bytes.load(Relaxed), self.sent_bytes.load(Relaxed))
    }

    /// True for who asks first, until [`Self::answer`].
    pub(crate) fn ask(&self) -> bool {
        !self.asked.load(Relaxed) && !self.asked.swap(true, Relaxed)
    }

    pub(crate) fn answer(&self) {
        self.asked.store(false, Relaxed);
    }
}

/// Ten thousand peers without a session take a few megabytes.
const _: () = assert!(size_of::<Peer>() <= 640);

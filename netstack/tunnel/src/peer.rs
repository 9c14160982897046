//! One peer of a device: the protocol's machine, its path and its counters. Knows no thread and no other peer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapOption, Guard};
use model::PublicKey;
use wireguard::{KeyPair, Locked};

use crate::io::udp::Endpoint;
use crate::path::{Path, Way};
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
    /// The owner chose the path, and says when it is another.
    is_steered: AtomicBool,
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
            is_steered: AtomicBool::new(false),
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

    /// A keepalive is switched on, and there is no way for it.
    pub(crate) fn waits_for_way(&self) -> bool {
        !self.has_path() && self.lock().keepalive_seconds() > 0
    }

    pub(crate) fn is_steered(&self) -> bool {
        self.is_steered.load(SeqCst)
    }

    /// Packets go there from now on, or wherever the peer is heard.
    pub(crate) fn set_remote(&self, remote: SocketAddr) {
        self.is_steered.store(false, SeqCst);
        self.turn_to(remote);
    }

    /// Packets go this way from now on, wherever the peer is heard. `None`: they go where it is heard.
    pub(crate) fn steer(&self, way: Option<Way>) {
        // Before the path is stored, so that nobody who has not seen it puts another path over it.
        self.is_steered.store(way.is_some(), SeqCst);
        match way {
            Some(Way::To(remote)) => self.turn_to(remote),
            Some(Way::By(carrier)) => self.set_path(Path::Carrier(carrier)),
            None => {}
        }
    }

    fn turn_to(&self, remote: SocketAddr) {
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

    /// An authentic message came from there, so that is where the peer is. One that is steered goes on being sent to where
    /// it was, and from our address at which it was heard from there.
    pub(crate) fn heard(&self, from: &Path) {
        let remote = |path: &Path| path.udp().map(|endpoint| endpoint.remote);
        loop {
            let before = self.path.load();
            let is_there = before.as_deref().and_then(remote).is_some_and(|at| Some(at) == remote(from));
            let stays = self.is_steered() && !is_there;
            if stays || before.as_deref() == Some(from) {
                return;
            }
            // The peer may just have been steered.
            let found = self.path.compare_and_swap(&before, Some(Arc::new(from.clone())));
            if found.as_ref().map(Arc::as_ptr) == before.as_ref().map(Arc::as_ptr) {
                tracing::debug!(peer = %self.key, %from, "peer is elsewhere");
                return;
            }
        }
    }

    /// The kernel chooses our address of the path anew.
    pub(crate) fn forget_local(&self) {
        let before = self.path.load();
        if let Some(Path::Udp(Endpoint { remote, local: Some(_) })) = before.as_deref() {
            let path = Path::Udp(Endpoint { remote: *remote, local: None });
            // The peer may just have been heard elsewhere; there it stays.
            self.path.compare_and_swap(&before, Some(Arc::new(path)));
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const ROUNDS: u64 = 10_000;

    struct Relay;

    impl crate::path::Carrier for Relay {
        fn send(&self, _: &mut dyn Iterator<Item = &[u8]>) {}

        fn name(&self) -> &str {
            "relay"
        }
    }

    #[test]
    fn a_peer_that_is_steered_stays_until_it_is_let_go() {
        let peer = Peer::new(PublicKey::from_bytes([1; 32]), 1, 1);
        let at = |last: u8, local: bool| {
            let local = local.then(|| [192, 0, 2, 1].into());
            Path::Udp(Endpoint { remote: SocketAddr::from(([192, 0, 2, last], 7)), local })
        };
        let relay: Arc<dyn crate::path::Carrier> = Arc::new(Relay);
        let check = |expect: &Path, why: &str| assert!(peer.path().as_deref() == Some(expect), "{why}");
        let remote = |path: &Path| path.udp().map(|endpoint| endpoint.remote).expect("UDP");

        peer.steer(Some(Way::To(remote(&at(2, false)))));
        check(&at(2, false), "as steered");
        for from in [at(3, true), Path::Carrier(Arc::clone(&relay))] {
            peer.heard(&from);
            check(&at(2, false), "heard elsewhere");
        }
        peer.heard(&at(2, true));
        check(&at(2, true), "our own address is learnt");
        peer.steer(Some(Way::To(remote(&at(2, false)))));
        check(&at(2, true), "and kept while the way is the same");
        peer.steer(Some(Way::By(Arc::clone(&relay))));
        peer.heard(&at(2, true));
        check(&Path::Carrier(relay), "by a carrier");
        peer.steer(None);
        peer.heard(&at(2, true));
        check(&at(2, true), "let go");
        peer.steer(Some(Way::To(remote(&at(3, false)))));
        peer.set_remote(remote(&at(4, false)));
        check(&at(4, false), "told an endpoint");
        peer.heard(&at(2, true));
        check(&at(2, true), "which lets it go, too");
    }

    #[test]
    fn a_peer_that_was_heard_elsewhere_stays_there_when_our_address_is_forgotten() {
        let peer = Peer::new(PublicKey::from_bytes([1; 32]), 1, 1);
        let at = |port| {
            let local = Some([192, 0, 2, 1].into());
            Path::Udp(Endpoint { remote: SocketAddr::from(([192, 0, 2, 2], port)), local })
        };
        let mut stayed = true;
        let arrived = AtomicU64::new(0);
        let meet = |time: u64| {
            arrived.fetch_add(1, SeqCst);
            while arrived.load(SeqCst) < 2 * time {
                std::hint::spin_loop();
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    meet(2 * round + 1);
                    peer.forget_local();
                    meet(2 * round + 2);
                }
            });
            for round in 0..ROUNDS {
                peer.heard(&at(1));
                meet(2 * round + 1);
                peer.heard(&at(2));
                meet(2 * round + 2);
                let remote = peer.path().and_then(|path| path.udp()).map(|udp| udp.remote.port());
                stayed &= remote == Some(2);
            }
        });
        assert!(stayed);
        peer.forget_local();
        assert_eq!(peer.path().and_then(|path| path.udp()).map(|udp| udp.local), Some(None));
    }
}

//! The kernel's WireGuard on the road: its peers are pointed to addresses, those that are relayed to a place on this machine's
//! loopback that stands for the peer. Chooses no way.
//!
//! ```text
//!   kernel ── endpoint 203.0.113.20:51820 ──▶ UDP
//!      │  └── endpoint 127.64.0.7:P ──▶ desk ──▶ ferry ──▶ relay ──▶ peer     one socket, an address for each peer
//!      ◀──────── from 127.64.0.7:P ◀──────┘
//!   raw sockets beside it ◀──▶ probes
//! ```
//!
//! The kernel follows a peer's last packet by itself. Whoever looks at it finds that out, and points it back; while it would
//! lead to an address that is in doubt or was just left, that is done without looking ([`Held`]).

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use model::PublicKey;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tunnel::Carrier;

use crate::interface::InterfaceName;
use crate::links::MARK;
use crate::paths::hold::{self, Held, Hold};
use crate::paths::raw::Raw;
use crate::pointer::Pointer;

/// The first of 4 million addresses of the loopback (RFC 1122, section 3.2.1.3), apart from those that programs use.
const FIRST: u32 = u32::from_be_bytes([127, 64, 0, 1]);
const ADDRESSES: u32 = 1 << 22;
/// Packets read at once, each as long as the kernel joins them.
const BATCH: usize = 4;
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Whether an address stands for a peer: to a lane that there is, or to one of a life before, which leads nowhere.
pub(crate) fn stands_for_peer(endpoint: SocketAddr) -> bool {
    let IpAddr::V4(ip) = endpoint.ip() else { return false };
    (FIRST..FIRST + ADDRESSES - 1).contains(&ip.to_bits())
}

/// A peer as the kernel has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Where its packets go.
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
}

/// See the top of the file.
pub(crate) struct Lane {
    /// WireGuard's.
    port: u16,
    raw: Arc<Raw>,
    desk: Arc<Desk>,
    pointing: Arc<Pointing>,
    /// Bytes sent to and received from each peer, when they were read last.
    counted: Mutex<BTreeMap<PublicKey, (u64, u64)>>,
    tasks: [JoinHandle<()>; 3],
}

impl Lane {
    /// `heard` is given probes and answers of STUN.
    pub(crate) fn open(
        interface: &InterfaceName,
        port: u16,
        runtime: &Handle,
        heard: impl Fn(&[u8], SocketAddr) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let mut pointer = Pointer::new(interface);
        Self::by(port, runtime, heard, move |peer, to| {
            if let Err(error) = pointer.point(peer, to) {
                tracing::debug!(%peer, %to, %error, "the kernel's peer was not pointed there");
            }
        })
    }

    /// As [`Self::open`], with who points the kernel's peers.
    fn by(
        port: u16,
        runtime: &Handle,
        heard: impl Fn(&[u8], SocketAddr) + Send + Sync + 'static,
        point: impl FnMut(&PublicKey, SocketAddr) + Send + 'static,
    ) -> io::Result<Self> {
        let _entered = runtime.enter();
        let (raw, desk) = (Arc::new(Raw::open(port, MARK)?), Arc::new(Desk::open(port)?));
        let (hearing, carrying) = (Arc::clone(&raw), Arc::clone(&desk));
        let pointing = Arc::new(Pointing::new(point));
        let holding = Arc::clone(&pointing);
        let tasks = [
            runtime.spawn(async move { hearing.hear(heard).await }),
            runtime.spawn(async move { carrying.carry().await }),
            runtime.spawn(async move { holding.hold().await }),
        ];
        Ok(Self { port, raw, desk, pointing, counted: Mutex::default(), tasks })
    }

    /// The port of WireGuard that this is for.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Where a peer's packets are to go: to an address, or onto its ferry, or to a side socket in place of that.
    pub(crate) fn place(
        &self,
        peer: &PublicKey,
        direct: Option<SocketAddr>,
        ferry: &Arc<dyn Carrier>,
    ) -> SocketAddr {
        let relayed = self.desk.place(peer, ferry);
        direct.unwrap_or(relayed)
    }

    /// Has the kernel send a peer's packets there, if it has the peer.
    pub(crate) fn point(&self, peer: &PublicKey, to: SocketAddr) {
        (self.pointing.lock().point)(peer, to);
    }

    /// The same, and again and again for as long; or no longer than now.
    pub(crate) fn turn(&self, peer: &PublicKey, to: SocketAddr, stay: Stay) {
        let mut hands = self.pointing.lock();
        hands.held.set(peer, stay.hold(to));
        (hands.point)(peer, to);
        self.pointing.more.notify_one();
    }

    /// The peer is none any more.
    pub(crate) fn forget(&self, peer: &PublicKey) {
        self.desk.forget(peer);
        self.pointing.lock().held.set(peer, None);
    }

    /// Gives the kernel a message that came over a relay.
    pub(crate) fn deliver(&self, peer: &PublicKey, message: &[u8]) {
        self.desk.deliver(peer, message);
    }

    /// Sends a probe from WireGuard's port.
    pub(crate) fn probe(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.raw.send(to, datagram)
    }

    /// The machine is on another network.
    pub(crate) fn moved(&self) {
        self.raw.moved();
    }

    /// The kernel was looked at.
    pub(crate) fn count(&self, peers: &BTreeMap<PublicKey, Seen>) {
        let counts = peers.iter().map(|(key, peer)| (*key, (peer.sent_bytes, peer.received_bytes)));
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = counts.collect();
    }

    /// Bytes sent to and received from a peer, when the kernel was looked at.
    pub(crate) fn counted(&self, peer: &PublicKey) -> Option<(u64, u64)> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).get(peer).copied()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// For how long the kernel is kept from following a peer's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    /// It may follow them at once.
    Not,
    /// Until that is said anew: its address is in doubt.
    InDoubt,
    /// For a while from then on: it was taken away from an address.
    Left(Instant),
}

impl Stay {
    fn hold(self, to: SocketAddr) -> Option<Hold> {
        match self {
            Self::Not => None,
            Self::InDoubt => Some(Hold { to, until: None }),
            Self::Left(at) => Some(Hold { to, until: Some(at + hold::LEFT) }),
        }
    }
}

/// Has the kernel send a peer's packets to an address.
type Point = dyn FnMut(&PublicKey, SocketAddr) + Send;

/// Who points the kernel's peers.
struct Pointing {
    hands: Mutex<PointingHands>,
    /// Somebody may be held.
    more: Notify,
}

struct PointingHands {
    point: Box<Point>,
    held: Held,
}

impl Pointing {
    fn new(point: impl FnMut(&PublicKey, SocketAddr) + Send + 'static) -> Self {
        let hands = PointingHands { point: Box::new(point), held: Held::default() };
        Self { hands: Mutex::new(hands), more: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, PointingHands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Points those who are held, for as long as it is polled.
    async fn hold(&self) {
        loop {
            if self.lock().held.is_empty() {
                self.more.notified().await;
            }
            sleep(hold::AGAIN).await;
            // Nobody turns a peer elsewhere between the two.
            let mut hands = self.lock();
            for (peer, to) in hands.held.take(Instant::now()) {
                (hands.point)(&peer, to);
            }
        }
    }
}

/// The socket where the kernel's packets for relays come and go.
struct Desk {
    socket: UdpSocket,
    state: UdpSocketState,
    port: u16,
    /// Where the kernel's WireGuard is, and nobody else: its port is taken.
    wireguard: SocketAddr,
    places: RwLock<Places>,
}

#[derive(Default)]
struct Places {
    peers: BTreeMap<PublicKey, Ipv4Addr>,
    ferries: BTreeMap<Ipv4Addr, Arc<dyn Carrier>>,
    /// How many were given out.
    given: u32,
}

impl Places {
    fn next(&mut self) -> Ipv4Addr {
        loop {
            let address = Ipv4Addr::from_bits(FIRST + self.given % (ADDRESSES - 1));
            self.given = self.given.wrapping_add(1);
            if !self.ferries.contains_key(&address) {
                return address;
            }
        }
    }
}

impl Desk {
    fn open(wireguard: u16) -> io::Result<Self> {
        // Every address of the loopback is ours without asking (the kernel's local table). What others send is not looked at.
        let socket = UdpSocket::from_std(link::listening::udp((Ipv4Addr::UNSPECIFIED, 0).into())?)?;
        let state = UdpSocketState::new((&socket).into())?;
        let port = socket.local_addr()?.port();
        let wireguard = (Ipv4Addr::LOCALHOST, wireguard).into();
        Ok(Self { socket, state, port, wireguard, places: RwLock::default() })
    }

    fn place(&self, peer: &PublicKey, ferry: &Arc<dyn Carrier>) -> SocketAddr {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let known = places.peers.get(peer).copied();
        let address = known.unwrap_or_else(|| places.next());
        places.peers.insert(*peer, address);
        places.ferries.insert(address, Arc::clone(ferry));
        (address, self.port).into()
    }

    fn forget(&self, peer: &PublicKey) {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = places.peers.remove(peer) {
            places.ferries.remove(&address);
        }
    }

    fn ferry(&self, address: Option<IpAddr>) -> Option<Arc<dyn Carrier>> {
        let Some(IpAddr::V4(address)) = address else { return None };
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places.ferries.get(&address).cloned()
    }

    fn deliver(&self, peer: &PublicKey, message: &[u8]) {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        let Some(address) = places.peers.get(peer).copied() else { return };
        drop(places);
        let transmit = Transmit {
            destination: self.wireguard,
            ecn: None,
            contents: message,
            segment_size: None,
            src_ip: Some(address.into()),
        };
        // What there is no room for is lost, as in any network.
        let _ =
            self.socket.try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), &transmit));
    }

    /// Ferries what comes, for as long as it is polled.
    async fn carry(&self) {
        let mut buffers: Vec<Vec<u8>> = vec![vec![0; DATAGRAM_BYTES_MAX]; BATCH];
        let mut came = [RecvMeta::default(); BATCH];
        loop {
            let read = self.socket.async_io(Interest::READABLE, || {
                let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
                self.state.recv((&self.socket).into(), &mut slices, &mut came)
            });
            let Ok(count) = read.await else { continue };
            for (buffer, meta) in buffers.iter().zip(&came).take(count) {
                let ferry = self.ferry(meta.dst_ip).filter(|_| meta.addr == self.wireguard);
                if let (Some(ferry), Some(messages)) = (ferry, buffer.get(..meta.len)) {
                    ferry.send(&mut messages.chunks(meta.stride.max(1)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::paths::PathInput;
    use model::DeviceId;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;
    use crate::paths::relay::Relays;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn an_address_that_stands_for_a_peer_is_told_from_others() {
        let check = |text: &str, expect| {
            assert_eq!(stands_for_peer(text.parse().expect("an address")), expect, "{text}");
        };
        check("127.64.0.1:40000", true);
        check("127.127.255.255:1", true);
        check("127.64.0.0:1", false);
        check("127.128.0.1:1", false);
        check("127.0.0.1:51820", false);
        check("203.0.113.1:51820", false);
        check("[::1]:51820", false);
    }

    #[tokio::test]
    async fn packets_of_the_kernel_come_to_the_peers_ferry_and_those_of_relays_from_its_place() {
        // In the kernel's place.
        let wireguard = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = wireguard.local_addr().expect("bound").port();
        let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let (news, mut heard) = mpsc::channel(8);
        let relays = Relays::new(news, |_, _| {});
        let desk = Arc::new(Desk::open(port).expect("a desk"));
        let carrying = Arc::clone(&desk);
        let carrying = tokio::spawn(async move { carrying.carry().await });
        let peer = |number: u8| {
            let key = PublicKey::from_bytes([number; 32]);
            let ferry: Arc<dyn Carrier> = relays.carrier(key, DeviceId::from_bytes([number; 16]));
            (key, desk.place(&key, &ferry), ferry)
        };
        let (one, other) = (peer(1), peer(2));
        assert_eq!(desk.place(&one.0, &one.2), one.1, "a peer keeps its place");
        assert_ne!(one.1, other.1);
        for (sender, place) in [(&stranger, one.1), (&wireguard, other.1)] {
            sender.send_to(&[1; 148], place).await.expect("there is room");
        }
        let wanted = timeout(PATIENCE, heard.recv()).await.expect("in time");
        assert_eq!(wanted, Some(PathInput::Wanted(other.0)), "who is not the kernel is not heard");
        desk.deliver(&one.0, &[2; 92]);
        let mut buffer = [0; 200];
        let came =
            timeout(PATIENCE, wireguard.recv_from(&mut buffer)).await.expect("in time").expect("comes");
        assert_eq!((came, &buffer[..92]), ((92, one.1), &[2; 92][..]));
        desk.forget(&one.0);
        desk.deliver(&one.0, &[2; 92]);
        desk.deliver(&other.0, &[3; 32]);
        let came =
            timeout(PATIENCE, wireguard.recv_from(&mut buffer)).await.expect("in time").expect("comes");
        assert_eq!(came, (32, other.1), "who is forgotten has no place");
        carrying.abort();
    }

    /// Needs root.
    #[tokio::test]
    async fn a_peer_that_is_turned_is_pointed_there_for_as_long_as_it_is_to_stay_and_once_if_not() {
        let (told, mut pointed) = mpsc::unbounded_channel();
        let note = move |peer: &PublicKey, to| told.send((*peer, to)).unwrap_or_default();
        let lane = Lane::by(1, &Handle::current(), |_, _| {}, note).expect("raw sockets");
        let peer = PublicKey::from_bytes([1; 32]);
        let [relayed, direct] =
            ["127.64.0.7:5", "203.0.113.20:51820"].map(|text| text.parse().expect("an address"));
        let mut next = async || timeout(PATIENCE, pointed.recv()).await.expect("in time").expect("it lives");
        // Each time that the kernel followed the peer meanwhile it is led back.
        let stays =
            [(relayed, Stay::InDoubt), (direct, Stay::InDoubt), (relayed, Stay::Left(Instant::now()))];
        for (to, stay) in stays {
            lane.turn(&peer, to, stay);
            while next().await.1 != to {}
            for _ in 0..5 {
                assert_eq!(next().await, (peer, to), "{stay:?}");
            }
        }
        // From then on it may follow the peer.
        let over = Instant::now().checked_sub(hold::LEFT).expect("the machine runs for longer");
        for (to, stay) in [(direct, Stay::Not), (direct, Stay::Left(over))] {
            lane.turn(&peer, relayed, Stay::InDoubt);
            lane.turn(&peer, to, stay);
            while next().await.1 != to {}
            let more = timeout(hold::AGAIN * 10, next()).await;
            assert!(more.is_err(), "{stay:?}: {more:?}");
        }
        lane.turn(&peer, relayed, Stay::InDoubt);
        lane.forget(&peer);
        while timeout(hold::AGAIN * 10, next()).await.is_ok_and(|(_, to)| to == relayed) {}
        assert!(lane.pointing.lock().held.is_empty(), "who is none any more");
    }
}

//! Devices over packet descriptors, in this process and without a privilege: paths that are not UDP, probes, ciphers,
//! and what one gives up when the other does not answer.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak, mpsc};
use std::time::{Duration, Instant};

use chacha::Cipher;
use model::PrivateKey;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, send, setsockopt,
    socketpair, sockopt,
};
use tunnel::{Carrier, Config, Device, PeerUpdate, Probe, Update, Way};

const PATIENCE: Duration = Duration::from_secs(10);

/// A device, the descriptor that stands for its interface, and its address.
struct End {
    device: Arc<Device>,
    packets: OwnedFd,
    key: PrivateKey,
    address: Ipv4Addr,
}

impl End {
    fn new(number: u8, config: Config) -> Self {
        let (inner, packets) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .expect("a pair");
        let device = Device::over(&format!("end{number}"), inner, config).expect("a device");
        let key = PrivateKey::from_bytes([number; 32]);
        let update = Update { private_key: Some(Some(key.clone())), ..Update::default() };
        device.apply(update).expect("a key");
        Self { device: Arc::new(device), packets, key, address: Ipv4Addr::new(100, 64, 0, number) }
    }

    fn knows(&self, other: &Self, by_udp: bool) {
        let mut peer = PeerUpdate::new(other.key.public());
        peer.allowed_ips = vec![format!("{}/32", other.address).parse().expect("a network")];
        peer.endpoint = by_udp.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, other.device.listen_port())));
        self.device.apply(Update::peer(peer)).expect("a peer");
    }

    fn send(&self, to: &Self, number: u32) {
        let packet = packet(self.address, to.address, number);
        send(self.packets.as_raw_fd(), &packet, MsgFlags::empty()).expect("there is room");
    }

    /// The number in the next packet that comes out.
    fn next(&self) -> u32 {
        let mut fds = [PollFd::new(self.packets.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(PATIENCE).expect("not long");
        assert_eq!(poll(&mut fds, timeout), Ok(1), "no packet came out");
        let mut packet = [0; 2048];
        let length = recv(self.packets.as_raw_fd(), &mut packet, MsgFlags::empty()).expect("a packet");
        u32::from_be_bytes(packet[length - 4..length].try_into().expect("four bytes"))
    }
}

/// An IP packet of a protocol that nobody joins (RFC 3692, section 2.1), with a number in it.
fn packet(from: Ipv4Addr, to: Ipv4Addr, number: u32) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 24, 0, 0, 0, 0, 64, 253, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(number.to_be_bytes());
    packet
}

fn pair(config: &Config) -> (End, End) {
    let (a, b) = (End::new(1, config.clone()), End::new(2, config.clone()));
    a.knows(&b, true);
    b.knows(&a, true);
    (a, b)
}

#[test]
fn every_cipher_with_and_without_offload_carries_packets_in_order() {
    for cipher in Cipher::available() {
        for offload in [true, false] {
            let (a, b) = pair(&Config { cipher, offload, ..Config::default() });
            for number in 0..100 {
                a.send(&b, number);
            }
            for number in 0..100 {
                assert_eq!(b.next(), number, "{cipher}, offload {offload}");
            }
            b.send(&a, 7);
            assert_eq!(a.next(), 7);
        }
    }
}

/// Hands messages straight to another device, as a relay would.
struct Wire {
    to: OnceLock<Weak<Device>>,
    back: OnceLock<Weak<dyn Carrier>>,
    carried: AtomicU64,
}

impl Wire {
    fn new() -> Arc<Self> {
        Arc::new(Self { to: OnceLock::new(), back: OnceLock::new(), carried: AtomicU64::new(0) })
    }
}

impl Carrier for Wire {
    fn send(&self, messages: &mut dyn Iterator<Item = &[u8]>) {
        let (to, back) = (self.to.get().and_then(Weak::upgrade), self.back.get().and_then(Weak::upgrade));
        let (Some(to), Some(back)) = (to, back) else { return };
        for message in messages {
            self.carried.fetch_add(1, Ordering::Relaxed);
            to.receive(&back, message);
        }
    }

    fn name(&self) -> &str {
        "wire"
    }
}

/// Wires there and back, of which the first knows.
fn wires(a: &End, b: &End) -> (Arc<Wire>, Arc<Wire>) {
    let (out, back) = (Wire::new(), Wire::new());
    out.to.set(Arc::downgrade(&b.device)).expect("set once");
    back.to.set(Arc::downgrade(&a.device)).expect("set once");
    assert!(out.back.set(Arc::downgrade(&back) as Weak<dyn Carrier>).is_ok());
    assert!(back.back.set(Arc::downgrade(&out) as Weak<dyn Carrier>).is_ok());
    assert!(a.device.set_carrier(&b.key.public(), &(Arc::clone(&out) as Arc<dyn Carrier>)));
    (out, back)
}

#[test]
fn who_sees_a_packet_may_answer_to_where_it_came_from() {
    let (a, b) = (End::new(1, Config::default()), End::new(2, Config::default()));
    a.knows(&b, false);
    let _wires = wires(&a, &b);
    for number in 0..500 {
        b.knows(&a, true);
        a.send(&b, number);
        assert_eq!(b.next(), number);
        let state = b.device.peer(&a.key.public()).expect("a peer");
        assert_eq!(state.endpoint, None, "after packet {number} the answer would go to the old path");
    }
}

#[test]
fn a_carrier_takes_what_udp_would_and_packets_go_back_by_where_they_came_from() {
    let (a, b) = (End::new(1, Config::default()), End::new(2, Config::default()));
    a.knows(&b, false);
    b.knows(&a, false);
    let (out, back) = wires(&a, &b);
    assert!(
        !a.device.set_carrier(&a.key.public(), &(out.clone() as Arc<dyn Carrier>)),
        "no peer of that key"
    );
    for number in 0..20 {
        a.send(&b, number);
        assert_eq!(b.next(), number);
        b.send(&a, number);
        assert_eq!(a.next(), number, "b was told of no path but answers");
    }
    assert!(out.carried.load(Ordering::Relaxed) >= 21 && back.carried.load(Ordering::Relaxed) >= 21);

    // A path that is configured stands until the peer is heard elsewhere.
    let mut peer = PeerUpdate::new(b.key.public());
    peer.endpoint = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, b.device.listen_port())));
    a.device.apply(Update::peer(peer)).unwrap();
    let before = out.carried.load(Ordering::Relaxed);
    a.send(&b, 99);
    assert_eq!(b.next(), 99);
    assert_eq!(out.carried.load(Ordering::Relaxed), before, "it went by UDP");
}

#[test]
fn a_peer_that_is_steered_does_not_follow_its_packets() {
    let (a, b) = pair(&Config::default());
    a.send(&b, 1);
    assert_eq!(b.next(), 1);
    let (out, _back) = wires(&a, &b);
    assert!(a.device.steer(&b.key.public(), Some(Way::By(out.clone()))));
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, a.device.listen_port()));
    assert!(b.device.steer(&a.key.public(), Some(Way::To(at))));
    for number in 2..20 {
        a.send(&b, number);
        assert_eq!(b.next(), number, "by the wire");
        let endpoint = b.device.peer(&a.key.public()).expect("a peer").endpoint;
        assert_eq!(endpoint, Some(at), "after packet {number}");
    }
    assert!(out.carried.load(Ordering::Relaxed) >= 18);
    assert!(!b.device.steer(&b.key.public(), None), "no peer of that key");
}

#[test]
fn a_handshake_is_answered_the_way_it_came_whatever_way_is_steered() {
    let (a, b) = pair(&Config::default());
    let (told, nowhere) = mpsc::channel();
    assert!(b.device.steer(&a.key.public(), Some(Way::By(Arc::new(Told(told))))));
    a.send(&b, 1);
    assert_eq!(b.next(), 1, "without waiting for a handshake that is repeated");
    assert_eq!(nowhere.recv_timeout(PATIENCE).expect("the answer").len(), 92, "there, too");
}

#[test]
fn who_moves_is_followed_when_it_is_heard_over_the_session_and_not_before() {
    let (a, b) = (End::new(1, Config::default()), End::new(2, Config::default()));
    let socket = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (socket.local_addr().unwrap(), socket)
    };
    let ((between, carries), (before, _)) = (socket(), socket());
    for (end, other, endpoint) in [(&b, &a, before), (&a, &b, between)] {
        let mut peer = PeerUpdate::new(other.key.public());
        (peer.keepalive_seconds, peer.endpoint) =
            (Some(if endpoint == between { 25 } else { 0 }), Some(endpoint));
        end.device.apply(Update::peer(peer)).unwrap();
    }
    let carry = |to: &End, length: usize| {
        let mut message = [0; 200];
        assert_eq!(carries.recv(&mut message).expect("a message"), length);
        carries.send_to(&message[..length], (Ipv4Addr::LOCALHOST, to.device.listen_port())).unwrap();
    };
    let seen_at = || b.device.peer(&a.key.public()).expect("a peer").endpoint;
    carry(&b, 148);
    carry(&a, 92);
    assert_eq!(seen_at(), Some(before));
    carry(&b, 32);
    let until = Instant::now() + PATIENCE;
    while seen_at() != Some(between) {
        assert!(Instant::now() < until, "at {:?}", seen_at());
        std::thread::yield_now();
    }
}

#[test]
fn a_keepalive_that_found_no_way_goes_with_the_first_way() {
    let (a, b) = (End::new(1, Config::default()), End::new(2, Config::default()));
    let elsewhere = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    elsewhere.set_read_timeout(Some(PATIENCE)).unwrap();
    let with_keepalive = |key, endpoint| {
        let mut peer = PeerUpdate::new(key);
        (peer.keepalive_seconds, peer.endpoint) = (Some(25), endpoint);
        a.device.apply(Update::peer(peer)).unwrap();
    };
    with_keepalive(b.key.public(), None);
    with_keepalive(PrivateKey::from_bytes([3; 32]).public(), elsewhere.local_addr().ok());
    elsewhere.recv(&mut [0; 200]).expect("so the turn of the one without a way is over");
    let (told, carried) = mpsc::channel();
    assert!(a.device.steer(&b.key.public(), Some(Way::By(Arc::new(Told(told))))));
    assert_eq!(carried.recv_timeout(PATIENCE).expect("a handshake").len(), 148);
    // The same where the first way is an endpoint that was found late.
    let c = PrivateKey::from_bytes([4; 32]).public();
    with_keepalive(c, None);
    with_keepalive(PrivateKey::from_bytes([5; 32]).public(), elsewhere.local_addr().ok());
    elsewhere.recv(&mut [0; 200]).expect("so the turn of this one is over, too");
    let late = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    with_keepalive(c, late.local_addr().ok());
    assert_eq!(late.recv(&mut [0; 200]).expect("a handshake"), 148);
}

/// Tells what it carries.
struct Told(mpsc::Sender<Vec<u8>>);

impl Carrier for Told {
    fn send(&self, messages: &mut dyn Iterator<Item = &[u8]>) {
        messages.for_each(|message| self.0.send(message.to_vec()).expect("heard"));
    }

    fn name(&self) -> &str {
        "told"
    }
}

#[test]
fn what_is_not_wireguards_is_given_to_the_probe_and_nothing_else_is() {
    let (told, heard) = mpsc::channel();
    let probe = Probe::new(move |datagram, from| told.send((datagram.to_vec(), from)).unwrap());
    let a = End::new(1, Config { probe: Some(probe), ..Config::default() });
    let b = End::new(2, Config::default());
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, a.device.listen_port()));
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for datagram in [&[0, 1][..], &[], &[1; 148], &[4; 32], &[3, 0, 0, 0], &[5, 6, 7]] {
        stranger.send_to(datagram, to).unwrap();
    }
    let (datagram, from) = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!((datagram, from), (vec![5, 6, 7], stranger.local_addr().unwrap()));
    b.device.send_probe(&[200, 1], to).unwrap();
    let (datagram, from) = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!((datagram, from.port()), (vec![200, 1], b.device.listen_port()));
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
    b.device.send_probe(&stun, to).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap().0, stun);
    assert!(b.device.send_probe(&[4, 0, 0, 0], to).is_err() && b.device.send_probe(&[], to).is_err());
    assert!(heard.try_recv().is_err());
}

#[test]
fn handshakes_are_marked_as_the_kernels_are() {
    let end = End::new(1, Config::default());
    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    setsockopt(&other, sockopt::IpRecvTos, &true).unwrap();
    let mut peer = PeerUpdate::new(PrivateKey::from_bytes([2; 32]).public());
    peer.endpoint = Some(other.local_addr().unwrap());
    let key = peer.key;
    end.device.apply(Update::peer(peer)).unwrap();
    assert!(end.device.begin_handshake(&key));
    let (mut message, mut space) = ([0; 200], nix::cmsg_space!(u8));
    let mut parts = [std::io::IoSliceMut::new(&mut message)];
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    let came = recvmsg::<()>(other.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).unwrap();
    let class = came.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::Ipv4Tos(class) => Some(class),
        _ => None,
    });
    assert_eq!((came.bytes, class), (148, Some(0x88)), "AF41");
}

#[test]
fn a_source_that_is_not_the_peers_does_not_come_out_and_does_not_count() {
    let (a, b) = pair(&Config::default());
    let received = || b.device.peer(&a.key.public()).expect("a peer").received_bytes;
    a.send(&b, 1);
    assert_eq!(b.next(), 1);
    let before = received();
    let forged = packet(Ipv4Addr::new(100, 64, 0, 3), b.address, 2);
    send(a.packets.as_raw_fd(), &forged, MsgFlags::empty()).unwrap();
    a.send(&b, 3);
    assert_eq!(b.next(), 3);
    assert_eq!(received() - before, 64, "a packet of 24 bytes, padded, with header and tag");
}

#[test]
fn a_device_whose_packets_have_no_other_end_is_gone() {
    let end = End::new(1, Config::default());
    assert!(!end.device.is_gone());
    drop(end.packets);
    wait_until_gone(&end.device);
}

#[test]
fn a_device_with_a_thread_that_failed_is_gone() {
    let probe = Probe::new(|_, _| panic!("a fault of the owner's"));
    let end = End::new(1, Config { probe: Some(probe), ..Config::default() });
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, end.device.listen_port()));
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(&[5], to).unwrap();
    wait_until_gone(&end.device);
}

fn wait_until_gone(device: &Device) {
    let until = Instant::now() + PATIENCE;
    while !device.is_gone() {
        assert!(Instant::now() < until, "it goes on");
        std::thread::yield_now();
    }
}

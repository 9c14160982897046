//! Devices of our own on their roads, in this process.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use model::PrivateKey;
use nix::sys::socket::{MsgFlags, send};
use tunnel::{Config, PeerUpdate, Update};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

struct End {
    road: Road,
    news: mpsc::Receiver<PathInput>,
    packets: OwnedFd,
    key: PrivateKey,
}

impl End {
    fn new(number: u8) -> Self {
        let (road, news) = Road::new();
        let (inner, packets) = stack::pair().expect("descriptors");
        let config = Config { probe: road.hook(), ..Config::default() };
        let device = Device::over(&format!("end{number}"), inner, config).expect("a device");
        let key = PrivateKey::from_bytes([number; 32]);
        device.apply(Update { private_key: Some(Some(key.clone())), ..Update::default() }).expect("a key");
        road.put(Some(device));
        Self { road, news, packets, key }
    }

    fn at(&self) -> SocketAddr {
        let port = self.road.device(Device::listen_port).expect("a device");
        (Ipv4Addr::LOCALHOST, port).into()
    }

    fn has_peer(&self, other: &Self) {
        let mut peer = PeerUpdate::new(other.key.public());
        peer.allowed_ips = vec!["100.64.0.0/24".parse().expect("a network")];
        self.road.device(|device| device.apply(Update::peer(peer))).expect("a device").expect("applied");
        self.road.turn_again(&other.key.public());
    }

    fn send(&self) {
        self.try_send().expect("there is room");
    }

    /// A packet of a protocol that nobody joins.
    fn try_send(&self) -> nix::Result<usize> {
        let packet = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0, 100, 64, 0, 1, 100, 64, 0, 2];
        send(self.packets.as_raw_fd(), &packet, MsgFlags::empty())
    }

    fn hear(&mut self) -> PathInput {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.news.try_recv() {
                Ok(input) => return input,
                Err(_) => assert!(Instant::now() < until, "nothing is heard"),
            }
            std::thread::yield_now();
        }
    }

    fn endpoint(&self, other: &Self) -> Option<SocketAddr> {
        self.road.device(|device| device.peer(&other.key.public())).flatten().expect("a peer").endpoint
    }
}

fn device(number: u8) -> DeviceId {
    DeviceId::from_bytes([number; 16])
}

#[test]
fn the_first_packet_says_that_the_peer_is_wanted_and_what_comes_over_a_relay_is_the_peers() {
    let (mut a, b) = (End::new(1), End::new(2));
    a.road.know(b.key.public(), Some(device(2)));
    a.has_peer(&b);
    a.send();
    assert_eq!(a.hear(), PathInput::Wanted(b.key.public()), "there is no relay yet");

    // A handshake, as a relay would bring it; who is no device is not listened to.
    let there = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    there.set_read_timeout(Some(PATIENCE)).expect("a time");
    a.road.steer(&b.key.public(), Some(Way::Direct(there.local_addr().expect("bound"))));
    a.road.device(|device| device.begin_handshake(&b.key.public()));
    let mut initiation = [0; 200];
    let length = there.recv(&mut initiation).expect("a handshake");
    assert_eq!(length, 148);
    b.has_peer(&a);
    b.road.arrived(device(1), &initiation[..length]);
    let received = |end: &End, of: &End| end.road.counted(&of.key.public()).expect("a peer").1;
    assert_eq!(received(&b, &a), 0);
    b.road.know(a.key.public(), Some(device(1)));
    b.road.arrived(device(1), &initiation[..length]);
    let until = Instant::now() + PATIENCE;
    while received(&b, &a) != 148 {
        assert!(Instant::now() < until, "the handshake is not taken");
        std::thread::yield_now();
    }
    assert_eq!(b.endpoint(&a), None, "it goes on over the relay");
}

#[test]
fn a_way_holds_when_the_peer_is_set_anew_and_ends_with_the_peer() {
    let (a, b) = (End::new(1), End::new(2));
    a.road.know(b.key.public(), Some(device(2)));
    a.road.steer(&b.key.public(), Some(Way::Direct(b.at())));
    a.has_peer(&b);
    assert_eq!(a.endpoint(&b), Some(b.at()), "steered before there was a peer");
    a.road
        .device(|device| device.apply(Update::peer(PeerUpdate::removal(b.key.public()))))
        .expect("a device")
        .expect("applied");
    a.has_peer(&b);
    assert_eq!(a.endpoint(&b), Some(b.at()));
    a.road.steer(&b.key.public(), Some(Way::ViaHub));
    assert_eq!(a.endpoint(&b), None);
    a.road.steer(&b.key.public(), Some(Way::Direct(b.at())));
    a.road.steer(&b.key.public(), None);
    assert_eq!(a.endpoint(&b), None, "as at the beginning");
    a.road.steer(&b.key.public(), Some(Way::Direct(b.at())));
    a.road.know(b.key.public(), None);
    a.road.steer(&b.key.public(), Some(Way::Direct(a.at())));
    assert_eq!(a.endpoint(&b), Some(b.at()), "it is no device any more");
}

#[test]
fn a_peer_in_doubt_is_sent_each_packet_both_ways_until_it_is_not() {
    let (mut a, b) = (End::new(1), End::new(2));
    let there = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    there.set_read_timeout(Some(PATIENCE)).expect("a time");
    let at = there.local_addr().expect("bound");
    a.road.know(b.key.public(), Some(device(2)));
    a.has_peer(&b);
    assert!(!a.road.double(&b.key.public(), Some(RelayId::SERVER)));
    a.road.steer(&b.key.public(), Some(Way::Direct(at)));
    assert_eq!(a.endpoint(&b), Some(at), "who is not direct is not doubled");
    assert!(a.road.double(&b.key.public(), Some(RelayId(1))));
    assert!(!a.road.double(&b.key.public(), Some(RelayId::SERVER)), "it had begun");
    assert_eq!(a.endpoint(&b), None, "by the ferry");
    a.road.device(|device| device.begin_handshake(&b.key.public()));
    let mut message = [0; 200];
    assert_eq!(there.recv_from(&mut message).expect("comes directly"), (148, a.at()));
    assert_eq!(a.hear(), PathInput::Wanted(b.key.public()), "and by the ferry");
    assert!(!a.road.double(&b.key.public(), None));
    assert_eq!(a.endpoint(&b), Some(at));
    a.road.double(&b.key.public(), Some(RelayId::SERVER));
    a.road.steer(&b.key.public(), Some(Way::Relayed(RelayId::SERVER)));
    a.road.steer(&b.key.public(), Some(Way::Direct(at)));
    assert_eq!(a.endpoint(&b), Some(at), "doubt ends with the path");
}

#[test]
fn probes_come_and_go_at_the_port_of_wireguard_and_nothing_else_is_heard() {
    let (a, mut b) = (End::new(1), End::new(2));
    let answer = stun::reply(&stun::request(&[7; 12]), a.at()).expect("an answer").bytes;
    let probe = [&[0xD7, 1][..], &[0; 64]].concat();
    assert!(engine::paths::concerns(&probe) && engine::paths::concerns(&answer));
    for ignored in [&[5, 6, 7][..], &stun::request(&[7; 12]), &[0xD7, 1, 1]] {
        a.road.probe(b.at(), ignored);
    }
    for bytes in [probe, answer] {
        a.road.probe(b.at(), &bytes);
        assert_eq!(b.hear(), PathInput::Datagram { from: a.at(), bytes });
    }
}

#[test]
fn a_flood_of_probes_costs_the_loop_no_more_than_it_can_take() {
    let (road, mut news) = Road::new();
    let probe = [&[0xD7, 1][..], &[0; 64]].concat();
    let config = Config { probe: road.hook(), ..Config::default() };
    let (inner, _packets) = stack::pair().expect("descriptors");
    road.put(Some(Device::over("flooded", inner, config).expect("a device")));
    let port = road.device(Device::listen_port).expect("a device");
    let stranger = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    for _ in 0..2 * NEWS_MAX {
        stranger.send_to(&probe, (Ipv4Addr::LOCALHOST, port)).expect("sent");
    }
    assert!(news.blocking_recv().is_some());
    drop(road);
    let rest = std::iter::from_fn(|| news.blocking_recv()).count();
    assert!(rest <= NEWS_MAX, "{rest}");
}

#[test]
fn without_paths_a_device_is_left_alone() {
    let road = Road::idle();
    assert!(road.hook().is_none());
    road.know(PrivateKey::from_bytes([1; 32]).public(), Some(device(1)));
    assert!(road.ways().peers.is_empty() && road.relays().is_none());
}

/// Needs root.
#[tokio::test]
async fn a_kernel_that_cannot_be_steered_says_why_until_it_can() {
    let (road, _news) = Road::new();
    let interface: InterfaceName = "steered0".parse().expect("a name");
    let port = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = port.local_addr().expect("bound").port();
    let look = || road.seen(&interface, Some((port, BTreeMap::new())));
    road.look_ahead();
    assert_eq!(road.obstacle(), None);
    // Of this thread only.
    let capability = caps::Capability::CAP_NET_RAW;
    caps::drop(None, caps::CapSet::Effective, capability).expect("it is held");
    look();
    let why = road.obstacle();
    caps::raise(None, caps::CapSet::Effective, capability).expect("it is permitted");
    assert!(why.as_ref().is_some_and(|why| why.contains("not permitted")), "{why:?}");
    look();
    assert_eq!(road.obstacle(), None);
}

const MET: SideId = SideId(8);

/// Opens two side sockets for a peer, one of which met it there.
fn meet(road: &Road, peer: &PublicKey, there: SocketAddr) -> SocketAddr {
    let SocketAddr::V4(there) = there else { panic!("IPv4 only") };
    road.know(*peer, Some(device(2)));
    road.open_sides(peer, [SideId(7), MET].into_iter(), None).expect("there is room");
    let place = engine::paths::place(MET, there);
    road.steer(peer, Some(Way::Direct(place)));
    assert_eq!(road.close_sides(peer, Some(MET)), 2);
    place
}

async fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn packets_of_a_peer_that_was_met_at_a_side_socket_go_and_come_there() {
    let (mut a, b) = (End::new(1), End::new(2));
    let (one, other) = (a.key.public(), b.key.public());
    a.has_peer(&b);
    b.has_peer(&a);
    let place = meet(&a.road, &other, b.at());
    assert_eq!(a.endpoint(&b), None, "it goes not from the device's own socket");
    assert!(a.road.device(|device| device.begin_handshake(&other)).expect("a device"));
    let received = |end: &End, of: &PublicKey| end.road.counted(of).expect("a peer").1;
    wait_for("a handshake both ways", || received(&b, &one) >= 148 && received(&a, &other) >= 92).await;
    let heard_at = b.endpoint(&a).expect("heard");
    assert_ne!(heard_at.port(), a.at().port());
    let probe = [&[0xD7, 1][..], &[0; 64]].concat();
    b.road.probe((Ipv4Addr::LOCALHOST, heard_at.port()).into(), &probe);
    let mut came = None;
    let until = Instant::now() + PATIENCE;
    while came.is_none() && Instant::now() < until {
        tokio::task::yield_now().await;
        came = a.news.try_recv().ok();
    }
    assert_eq!(came, Some(PathInput::Sided { side: MET, from: b.at(), bytes: probe.clone() }));

    // In doubt both ways, and alone over the relay once it is closed.
    a.road.double(&other, Some(RelayId::SERVER));
    let before = received(&b, &one);
    a.send();
    assert_eq!(a.hear(), PathInput::Wanted(other), "by the ferry");
    wait_for("and directly", || received(&b, &one) > before).await;
    a.road.double(&other, None);
    assert_eq!((a.road.close_sides(&other, None), a.road.close_sides(&other, None)), (1, 0));
    a.road.probe(place, &probe);
    while a.news.try_recv().is_ok() {}
    // What goes by the ferry is told once a second.
    let until = Instant::now() + PATIENCE;
    while a.news.try_recv().ok() != Some(PathInput::Wanted(other)) {
        assert!(Instant::now() < until, "its packets take the ferry");
        // The device may not be as fast.
        let _ = a.try_send();
        tokio::task::yield_now().await;
    }
}

/// Needs root.
#[tokio::test]
async fn the_kernels_packets_go_and_come_at_a_side_socket_too() {
    let loopback = || tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    // In the place of the kernel, and of the peer.
    let (wireguard, there) = (loopback().await.expect("a port"), loopback().await.expect("a port"));
    let port = wireguard.local_addr().expect("bound").port();
    let (road, _news) = Road::new();
    let interface: InterfaceName = "sided0".parse().expect("a name");
    road.seen(&interface, Some((port, BTreeMap::new())));
    let peer = PrivateKey::from_bytes([2; 32]).public();
    meet(&road, &peer, there.local_addr().expect("bound"));
    let at = {
        let ways = road.ways();
        road.lane(|lane| road.place(lane, &peer, &ways.peers[&peer])).expect("a lane")
    };
    assert!(at.ip().is_loopback(), "{at}");
    wireguard.send_to(&[1; 148], at).await.expect("sent");
    let mut buffer = [0; 200];
    let came = tokio::time::timeout(PATIENCE, there.recv_from(&mut buffer)).await.expect("in time");
    let (length, side) = came.expect("it comes");
    assert_eq!(length, 148);
    there.send_to(&[2; 92], side).await.expect("sent");
    let came = tokio::time::timeout(PATIENCE, wireguard.recv_from(&mut buffer)).await.expect("in time");
    assert_eq!(came.expect("it comes"), (92, at));
}

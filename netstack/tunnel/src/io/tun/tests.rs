//! Interfaces in a network namespace of the test's own thread, and descriptors. Needs root and `ip`.

use std::net::Ipv4Addr;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Type};

use super::*;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`, `VIRTIO_NET_HDR_GSO_TCPV4` and `VIRTIO_NET_HDR_GSO_UDP_L4` of the kernel.
const NEEDS_CHECKSUM: u8 = 1;
const TCP_V4: u8 = 1;
const UDP_L4: u8 = 5;

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status();
    assert!(done.is_ok_and(|status| status.success()), "ip {arguments}");
}

/// Runs a test with an interface of `10.99.0.1/24`.
fn with_interface(offload: bool, test: impl FnOnce(&Tun) + Send + 'static) {
    let alone = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
        let tun = Tun::create("t0", 1420, offload).expect("an interface");
        ip("addr add 10.99.0.1/24 dev t0");
        ip("link set t0 up");
        test(&tun);
    });
    alone.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// The next IPv4 packet and its header.
fn next_v4(tun: &Tun) -> Vec<u8> {
    let mut buffer = vec![0xff; READ_BYTES];
    loop {
        let mut fds = [PollFd::new(tun.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 5000u16), Ok(1), "a packet comes");
        let length = tun.read(&mut buffer).expect("reads");
        // The kernel looks for IPv6 routers by itself.
        if buffer[HEADER_BYTES] >> 4 == 4 {
            return buffer[..length].to_vec();
        }
    }
}

/// A UDP packet from 10.99.0.2:9 to 10.99.0.1, without checksum.
fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = |extra: usize| u16::try_from(extra + payload.len()).expect("short").to_be_bytes();
    let mut packet = vec![0x45, 0];
    packet.extend(length(28));
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 99, 0, 2, 10, 99, 0, 1]);
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("one carry");
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(9u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend(length(8));
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

#[test]
fn names_that_no_interface_can_have_are_refused() {
    let check = |name: &str, ok: bool| assert_eq!(named(name).is_ok(), ok, "{name}");
    check("wg0", true);
    check("fifteen-letters", true);
    check("sixteen--letters", false);
    check("", false);
    check("..", false);
    check("a/b", false);
    check("wg%d", false);
}

#[test]
fn packets_come_and_go_with_a_header() {
    with_interface(false, |tun| {
        assert_eq!(tun.mtu().ok(), Some(1420));
        ip("link set t0 mtu 1300");
        assert_eq!(tun.mtu().ok(), Some(1300));
        let socket = UdpSocket::bind("10.99.0.1:0").expect("binds");
        socket.send_to(b"out", "10.99.0.2:9").expect("sends");
        let packet = next_v4(tun);
        assert_eq!((&packet[..HEADER_BYTES], &packet[HEADER_BYTES + 28..]), (&[0; 10][..], &b"out"[..]));
        let port = socket.local_addr().expect("bound").port();
        let packet = udp(port, b"in");
        let parts =
            [IoSlice::new(&[0; HEADER_BYTES]), IoSlice::new(&packet[..20]), IoSlice::new(&packet[20..])];
        assert_eq!(tun.write(&parts).expect("writes"), Written::Whole);
        let mut buffer = [0; 16];
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a timeout");
        let (length, from) = socket.recv_from(&mut buffer).expect("it comes");
        assert_eq!((&buffer[..length], from.ip()), (&b"in"[..], Ipv4Addr::new(10, 99, 0, 2).into()));
    });
}

#[test]
fn super_packets_come_only_where_they_were_asked_for() {
    use crate::io::udp::kernel::Tails;
    use crate::io::udp::outbox::Outbox;
    use crate::io::udp::{Endpoint, Offload, Sockets};

    with_interface(true, |tun| {
        let sockets = Sockets::bind(0, 0, Offload { gso: true, gro: false }).expect("binds");
        let send = || {
            let to = Endpoint { remote: "10.99.0.2:9".parse().expect("an address"), local: None };
            let mut outbox = Outbox::new(Tails::Any);
            outbox.push(0..5000, 1000, to, 0);
            assert_eq!(outbox.send(&sockets, &[7; 5000], std::time::Instant::now()).sent, 5);
        };
        let all = tun.set_offload(true).expect("sets");
        assert!(all.tcp, "{all:?}");
        send();
        let packet = next_v4(tun);
        if all.udp {
            assert_eq!(
                (packet[0], packet[1], packet.len()),
                (NEEDS_CHECKSUM, UDP_L4, HEADER_BYTES + 28 + 5000)
            );
        } else {
            assert_eq!((packet[1], packet.len()), (0, HEADER_BYTES + 28 + 1000));
            (1..5).for_each(|_| assert_eq!(next_v4(tun).len(), packet.len()));
        }
        assert_eq!(tun.set_offload(false).expect("sets"), Offloads::default());
        send();
        for _ in 0..5 {
            let packet = next_v4(tun);
            assert_eq!((&packet[..2], packet.len()), (&PLAIN[..], HEADER_BYTES + 28 + 1000));
        }
    });
}

#[test]
fn a_super_packet_that_the_kernel_does_not_take_is_refused_and_not_an_error() {
    with_interface(true, |tun| {
        let packet = udp(9, &[0; 3000]);
        // No segment size at all.
        let header = [NEEDS_CHECKSUM, TCP_V4, 40, 0, 0, 0, 20, 0, 16, 0];
        let parts = [IoSlice::new(&header), IoSlice::new(&packet)];
        assert_eq!(tun.write(&parts).expect("no error"), Written::Refused);
        ip("link set t0 down");
        assert_eq!(tun.write(&parts).expect("no error"), Written::Refused);
        let plain = [IoSlice::new(&[0; HEADER_BYTES]), IoSlice::new(&packet)];
        assert_eq!(tun.write(&plain).expect_err("down").raw_os_error(), Some(libc::EIO));
    });
}

#[test]
fn an_interface_that_somebody_deletes_is_an_error() {
    with_interface(true, |tun| {
        let mut buffer = vec![0; READ_BYTES];
        while tun.read(&mut buffer).is_ok() {}
        assert_eq!(tun.read(&mut buffer).expect_err("nothing").kind(), io::ErrorKind::WouldBlock);
        assert_eq!(tun.read(&mut [0; 5]).expect_err("no room").kind(), io::ErrorKind::InvalidInput);
        assert!(!tun.is_gone());
        ip("link del t0");
        assert!(tun.is_gone());
        assert_eq!(tun.read(&mut buffer).expect_err("gone").raw_os_error(), Some(libc::EBADFD));
        assert!(tun.set_offload(true).is_err() && tun.mtu().is_err());
        assert!(tun.write(&[IoSlice::new(&[0; 40])]).is_err());
    });
}

#[test]
fn a_descriptor_carries_bare_packets() {
    for kind in [Type::SEQPACKET, Type::DGRAM] {
        let (ours, theirs) = Socket::pair(Domain::UNIX, kind, None).expect("a pair");
        let tun = Tun::over(ours.into(), 1280).expect("a descriptor");
        assert_eq!(tun.mtu().ok(), Some(1280));
        assert_eq!(tun.set_offload(true).expect("nothing to set"), Offloads::default());
        let mut buffer = [0xff; 64];
        assert_eq!(tun.read(&mut buffer).expect_err("nothing").kind(), io::ErrorKind::WouldBlock);
        assert!(!tun.is_gone());
        theirs.send(b"to the tunnel").expect("sends");
        theirs.send(b"another").expect("sends");
        assert_eq!(tun.read(&mut buffer).expect("reads"), HEADER_BYTES + 13);
        assert_eq!(
            (&buffer[..HEADER_BYTES], &buffer[HEADER_BYTES..23]),
            (&[0; 10][..], &b"to the tunnel"[..])
        );
        assert_eq!(tun.read(&mut buffer).expect("reads"), HEADER_BYTES + 7);

        let headed: Vec<u8> = [&[0; HEADER_BYTES][..], b"abc"].concat();
        let mut theirs = theirs;
        for parts in [
            &[IoSlice::new(&headed), IoSlice::new(b"def")][..],
            &[IoSlice::new(&[0; HEADER_BYTES]), IoSlice::new(b"abcde"), IoSlice::new(b"f")],
        ] {
            assert_eq!(tun.write(parts).expect("writes"), Written::Whole);
            let length = theirs.read(&mut buffer).expect("reads");
            assert_eq!(&buffer[..length], b"abcdef");
        }
        for head in [[NEEDS_CHECKSUM, 0], [0, TCP_V4]] {
            let header = [&head[..], &[0; 8]].concat();
            let refused = tun.write(&[IoSlice::new(&header), IoSlice::new(b"abc")]);
            assert_eq!(refused.expect("no error"), Written::Refused);
        }
        let many = [IoSlice::new(&headed); PARTS_MAX + 1];
        assert_eq!(tun.write(&many).expect_err("too many").kind(), io::ErrorKind::InvalidInput);
        let full = (0..10_000).find_map(|_| tun.write(&[IoSlice::new(&headed)]).err());
        assert_eq!(full.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
        drop(theirs);
        assert!(tun.write(&[IoSlice::new(&headed)]).is_err());
        if kind == Type::SEQPACKET {
            let end = tun.read(&mut buffer).expect_err("closed").kind();
            assert!(matches!(end, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), "{end:?}");
        }
    }
}

//! Datagrams over the loopback interface: with every offload, without each, and with every refusal of the kernel.

use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::Instant;

use proptest::prelude::*;

use super::inbox::Inbox;
use super::kernel::Tails;
use super::outbox::{Outbox, Report};
use super::system::faults::{self, Faults};
use super::*;
use crate::io::fallback::RETRY;

const ALL: Offload = Offload { gso: true, gro: true };
const NONE: Offload = Offload { gso: false, gro: false };
const V4: &str = "127.0.0.2";
const V6: &str = "::1";

/// Two devices on one machine, and what was pushed for the second.
struct Pair {
    a: Sockets,
    b: Sockets,
    outbox: Outbox,
    inbox: Inbox,
    arena: Vec<u8>,
}

/// A datagram that came: bytes, from where and to where, bits for congestion.
#[derive(Debug, Clone, PartialEq)]
struct Came {
    bytes: Vec<u8>,
    from: Endpoint,
    ecn: u8,
}

impl Pair {
    fn new(offload: Offload) -> Self {
        Self::with(offload, Tails::Any)
    }

    fn with(offload: Offload, tails: Tails) -> Self {
        let bind = || Sockets::bind(0, 0, offload).expect("binds");
        Self { a: bind(), b: bind(), outbox: Outbox::new(tails), inbox: Inbox::new(), arena: Vec::new() }
    }

    fn endpoint(&self, to: &str) -> Endpoint {
        Endpoint { remote: SocketAddr::new(to.parse().expect("an address"), self.b.port()), local: None }
    }

    /// Pushes datagrams of different bytes and answers them.
    fn push(&mut self, to: Endpoint, length: usize, stride: usize, ecn: u8) -> Vec<Vec<u8>> {
        let start = self.arena.len();
        self.arena.extend((start..start + length).map(|i| (i * 7 + i / 251).to_le_bytes()[0]));
        self.outbox.push(start..start + length, stride, to, ecn);
        self.arena[start..].chunks(stride.min(length)).map(<[u8]>::to_vec).collect()
    }

    fn send(&mut self, now: Instant) -> Report {
        self.outbox.send(&self.a, &self.arena, now)
    }

    /// Sends all and asserts that the kernel took it.
    fn send_all(&mut self, datagrams: usize) {
        let report = self.send(Instant::now());
        assert_eq!((report.sent, report.blocked), (datagrams, false), "{report:?}");
        assert!(report.lost.is_empty() && report.stale.is_empty() && self.outbox.is_empty(), "{report:?}");
    }

    /// Waits for that many datagrams at the second device's socket of the family.
    fn receive(&mut self, to: &str, count: usize) -> Vec<Came> {
        let socket = self.b.towards(&self.endpoint(to).remote).expect("bound");
        receive(&mut self.inbox, socket, count).0
    }

    fn receive_bytes(&mut self, to: &str, count: usize) -> Vec<Vec<u8>> {
        self.receive(to, count).into_iter().map(|came| came.bytes).collect()
    }
}

/// Waits for that many datagrams, and tells also how many had come joined to others.
fn receive(inbox: &mut Inbox, socket: &Socket, count: usize) -> (Vec<Came>, usize) {
    let (mut came, mut joined) = (Vec::new(), 0);
    while came.len() < count {
        let mut fds = [nix::poll::PollFd::new(socket.as_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut fds, 5000u16), Ok(1), "{} of {count} datagrams come", came.len());
        assert!(inbox.receive(socket).expect("receives") <= system::RECEIVE_MAX);
        let (arena, datagrams) = inbox.contents();
        for datagram in datagrams {
            let bytes = &arena[datagram.range.clone()];
            assert!(!bytes.is_empty() && (1..=bytes.len()).contains(&datagram.stride), "{datagram:?}");
            joined += usize::from(bytes.len() > datagram.stride);
            came.extend(bytes.chunks(datagram.stride).map(|bytes| Came {
                bytes: bytes.to_vec(),
                from: datagram.from,
                ecn: datagram.ecn,
            }));
        }
    }
    assert_eq!(came.len(), count, "no more than were sent");
    (came, joined)
}

fn with_faults(set: impl FnOnce(&mut Faults)) {
    faults::edit(|faults| {
        *faults = Faults::default();
        set(faults);
    });
}

/// Super-packets that the kernel was asked to cut since the last time.
fn super_packets() -> usize {
    faults::edit(|faults| std::mem::take(&mut faults.super_packets))
}

/// Every stride, last datagrams as long as the others, shorter and of one byte, for both families.
fn all_shapes(pair: &mut Pair) {
    for to in [V4, V6] {
        let endpoint = pair.endpoint(to);
        for stride in [1, 2, 31, 32, 148, 1200, 1452, 9000, 32_000, 65_507] {
            let mut expected = Vec::new();
            for length in [stride, 2 * stride, 5 * stride + 1, 64 * stride, 70 * stride + stride / 2] {
                expected.extend(pair.push(endpoint, length.min(200_000), stride, 0));
            }
            pair.send_all(expected.len());
            assert_eq!(pair.receive_bytes(to, expected.len()), expected, "{to} {stride}");
            pair.arena.clear();
        }
    }
}

#[test]
fn datagrams_of_every_length_arrive_as_they_were_with_all_offloads() {
    let mut pair = Pair::new(ALL);
    with_faults(|_| {});
    all_shapes(&mut pair);
    assert!(super_packets() > 0);
    for to in [V4, V6] {
        let expected = pair.push(pair.endpoint(to), 40 * 1452, 1452, 0);
        pair.send_all(40);
        let socket = pair.b.towards(&pair.endpoint(to).remote).expect("bound");
        let (came, joined) = receive(&mut pair.inbox, socket, 40);
        assert!(joined > 0, "the kernel joins");
        assert!(came.into_iter().map(|came| came.bytes).eq(expected));
    }
}

#[test]
fn datagrams_arrive_as_they_were_whatever_the_kernel_refuses() {
    let check = |what: &str, offload: Offload, whole: bool, set: fn(&mut Faults)| {
        with_faults(set);
        let mut pair = Pair::new(offload);
        all_shapes(&mut pair);
        assert_eq!(super_packets() > 0, whole, "{what}");
    };
    check("switched off", NONE, false, |_| {});
    check("no joining asked for", Offload { gso: true, gro: false }, true, |_| {});
    check("no cutting asked for", Offload { gso: false, gro: true }, false, |_| {});
    check("no checksums", ALL, false, |faults| faults.segmented = Some(libc::EIO));
    check("no UDP_SEGMENT", ALL, false, |faults| faults.segmented = Some(libc::EINVAL));
    check("a small path", ALL, false, |faults| faults.segmented = Some(libc::EMSGSIZE));
    check("no sendmmsg", ALL, true, |faults| faults.send_many = Some(libc::ENOSYS));
    check("no recvmmsg", ALL, true, |faults| faults.receive_many = Some(libc::ENOSYS));
    check("no UDP_GRO", ALL, true, |faults| faults.gro = Some(libc::ENOPROTOOPT));
    check("nothing at all", ALL, false, |faults| {
        *faults = Faults {
            segmented: Some(libc::EIO),
            send_many: Some(libc::ENOSYS),
            receive_many: Some(libc::ENOSYS),
            gro: Some(libc::ENOPROTOOPT),
            ..Faults::default()
        };
    });
}

#[test]
fn offloads_are_switched_at_run_time_and_those_in_force_are_told() {
    let mut pair = Pair::new(NONE);
    with_faults(|faults| faults.gro = Some(libc::ENOPROTOOPT));
    assert_eq!(pair.b.set_offload(ALL), Offload { gso: true, gro: false });
    with_faults(|_| {});
    for (wanted, whole) in [(ALL, true), (NONE, false), (ALL, true)] {
        assert_eq!((pair.a.set_offload(wanted), pair.b.set_offload(wanted)), (wanted, wanted));
        pair.push(pair.endpoint(V4), 14_520, 1452, 0);
        pair.send_all(10);
        assert_eq!(super_packets() > 0, whole);
        let socket = pair.b.towards(&pair.endpoint(V4).remote).expect("bound");
        assert_eq!(receive(&mut pair.inbox, socket, 10).1 > 0, whole);
    }
}

#[test]
fn a_driver_that_cannot_cut_is_tried_again_after_a_while() {
    let mut pair = Pair::new(ALL);
    let start = Instant::now();
    let sent_whole = |pair: &mut Pair, to: &str, stride: usize, now: Instant| {
        let count = pair.push(pair.endpoint(to), 3 * stride, stride, 0).len();
        let report = pair.send(now);
        assert_eq!((report.sent, report.lost.len(), report.stale.len()), (count, 0, 0), "{report:?}");
        pair.receive(to, count);
        super_packets() > 0
    };
    with_faults(|faults| faults.segmented = Some(libc::EIO));
    assert!(!sent_whole(&mut pair, V4, 1000, start));
    with_faults(|_| {});
    assert!(!sent_whole(&mut pair, V4, 1000, start + RETRY / 2), "not yet");
    assert!(!sent_whole(&mut pair, V6, 1000, start + RETRY / 2), "not elsewhere");
    assert!(sent_whole(&mut pair, V4, 1000, start + RETRY));

    for error in [libc::EMSGSIZE, libc::EINVAL] {
        with_faults(|faults| faults.segmented = Some(error));
        assert!(!sent_whole(&mut pair, V4, 1000, start));
        with_faults(|_| {});
        assert!(!sent_whole(&mut pair, V4, 1000, start + RETRY / 2), "not yet");
        assert!(!sent_whole(&mut pair, V4, 1001, start + RETRY / 2), "longer ones neither");
        assert!(sent_whole(&mut pair, V4, 999, start + RETRY / 2), "shorter ones fit");
        assert!(sent_whole(&mut pair, V6, 1000, start + RETRY / 2), "another path");
        assert!(sent_whole(&mut pair, V4, 1000, start + RETRY));
    }
}

#[test]
fn the_memory_of_small_paths_is_bounded() {
    let mut pair = Pair::new(ALL);
    with_faults(|faults| faults.segmented = Some(libc::EMSGSIZE));
    for i in 0..600u32 {
        let to = SocketAddr::from((Ipv4Addr::from_bits(0x7f01_0000 + i), 9));
        pair.push(Endpoint { remote: to, local: None }, 100, 10, 0);
        let report = pair.send(Instant::now());
        assert_eq!(report.sent, 10, "{report:?}");
    }
    assert_eq!(pair.outbox.narrow_paths(), 256);
}

/// Every piece may be given to a thread, and some be shared.
const _: () = {
    const fn is_sent<T: Send>() {}
    const fn is_shared<T: Send + Sync>() {}
    is_sent::<Inbox>();
    is_sent::<Outbox>();
    is_shared::<Sockets>();
    is_shared::<crate::io::tun::Tun>();
};

/// In a namespace of its own, whose loopback interface has a small MTU.
#[test]
fn datagrams_longer_than_the_path_leave_in_fragments() {
    let alone = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
        let up = Command::new("ip").args(["link", "set", "lo", "up", "mtu", "1280"]).status();
        assert!(up.is_ok_and(|status| status.success()), "a loopback interface can be set up");
        let mut pair = Pair::new(ALL);
        for to in [V4, V6] {
            let endpoint = pair.endpoint(to);
            let known = pair.outbox.narrow_paths();
            for attempts in [1, 0] {
                let mut expected = pair.push(endpoint, 20 * 1452 + 3, 1452, 1);
                super_packets();
                pair.send_all(21);
                assert_eq!((super_packets(), pair.outbox.narrow_paths()), (attempts, known + 1));
                expected.extend(pair.push(endpoint, 20 * 1000, 1000, 1));
                pair.send_all(20);
                assert_eq!(super_packets(), 1, "shorter ones stay together");
                assert_eq!(pair.receive_bytes(to, expected.len()), expected);
            }
        }
    });
    alone.join().expect("the thread in its namespace ends well");
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let mut pair = Pair::new(ALL);
    for asked in [V4, V6] {
        pair.push(pair.endpoint(asked), 2 * 1452, 1452, 0);
        pair.send_all(2);
        let from = pair.receive(asked, 2)[1].from;
        assert_eq!(from.local, asked.parse().ok());
        for length in [10, 100] {
            pair.outbox.push(0..length, 10, from, 0);
            let report = pair.outbox.send(&pair.b, &pair.arena, Instant::now());
            assert_eq!((report.sent, report.stale.len()), (length / 10, 0), "{report:?}");
            let socket = pair.a.towards(&from.remote).expect("bound");
            let (came, _) = receive(&mut pair.inbox, socket, length / 10);
            assert_eq!(
                came[0].from.remote,
                SocketAddr::new(asked.parse().expect("an address"), pair.b.port())
            );
        }
    }
}

#[test]
fn of_many_datagrams_it_is_known_since_when_the_last_one_waits() {
    for to in [V4, V6] {
        let mut pair = Pair::new(NONE);
        let before = crate::clock::wall();
        pair.push(pair.endpoint(to), 3000, 1000, 0);
        pair.send_all(3);
        pair.receive(to, 3);
        assert_eq!(pair.inbox.queued(), None, "a few are no queue");
        for _ in 0..system::RECEIVE_MAX {
            pair.push(pair.endpoint(to), 100, 100, 0);
            pair.send_all(1);
        }
        pair.receive(to, system::RECEIVE_MAX);
        let since = pair.inbox.queued().expect("they filled every slot");
        assert!((before..=crate::clock::wall()).contains(&since), "{to}: {since:?}");
    }
}

#[test]
fn bits_for_congestion_come_through() {
    let mut pair = Pair::new(ALL);
    for to in [V4, V6] {
        for (length, ecn) in [(3000, 0), (3000, 1), (3000, 2), (3000, 3), (1000, 3), (1000, 0)] {
            let sent = pair.push(pair.endpoint(to), length, 1000, ecn).len();
            pair.send_all(sent);
            let came = pair.receive(to, sent);
            assert!(came.iter().all(|came| came.ecn == ecn), "{to} {length} {ecn}: {came:?}");
        }
    }
}

#[test]
fn a_local_address_that_is_gone_is_reported_and_does_not_stop_the_datagrams() {
    let mut pair = Pair::new(ALL);
    for (to, gone) in [(V4, "192.0.2.1"), (V6, "2001:db8::1")] {
        for whole in [true, false] {
            pair.a.set_offload(Offload { gso: whole, gro: true });
            let to_gone = Endpoint { local: gone.parse().ok(), ..pair.endpoint(to) };
            let mut expected = pair.push(to_gone, 5000, 1000, 0);
            expected.extend(pair.push(to_gone, 400, 100, 1));
            expected.extend(pair.push(pair.endpoint(to), 100, 100, 0));
            super_packets();
            let report = pair.send(Instant::now());
            assert_eq!((report.sent, &report.stale[..], report.lost.len()), (10, &[to_gone][..], 0));
            assert_eq!(super_packets() > 0, whole, "the address was wrong, not the super-packet");
            assert_eq!(pair.receive_bytes(to, 10), expected);
        }
    }
    assert_eq!(pair.outbox.narrow_paths(), 0);
}

#[test]
fn a_message_that_is_refused_in_every_shape_is_reported_and_the_others_go() {
    let mut pair = Pair::new(ALL);
    let to = pair.endpoint(V4);
    let mut expected = pair.push(to, 3000, 1000, 0);
    pair.push(to, 500, 100, 1);
    expected.extend(pair.push(to, 10, 10, 2));
    with_faults(|faults| faults.after = Some((1, libc::ENETUNREACH)));
    let report = pair.send(Instant::now());
    assert_eq!((report.sent, report.stale.len()), (4, 0), "{report:?}");
    assert_eq!(report.lost.len(), 1);
    assert_eq!((report.lost[0].to, report.lost[0].datagrams), (to, 5));
    assert_eq!(report.lost[0].error.raw_os_error(), Some(libc::ENETUNREACH));
    assert_eq!(pair.receive_bytes(V4, 4), expected);

    // The protocol has no longer datagrams: refused by the kernel itself.
    pair.push(to, 65_508, 65_508, 0);
    let report = pair.send(Instant::now());
    assert_eq!((report.sent, report.lost.len(), report.blocked), (0, 1, false), "{report:?}");
    assert!(pair.outbox.is_empty());
}

#[test]
fn a_full_socket_keeps_what_it_did_not_take() {
    let mut pair = Pair::new(ALL);
    let to = pair.endpoint(V4);
    for many in [true, false] {
        let mut expected = Vec::new();
        for ecn in 0..3 {
            expected.extend(pair.push(to, 2500, 1000, ecn));
        }
        with_faults(|faults| {
            faults.after = Some((1, libc::EAGAIN));
            faults.send_many = (!many).then_some(libc::ENOSYS);
        });
        let report = pair.send(Instant::now());
        assert_eq!((report.sent, report.blocked, report.lost.len()), (3, true, 0), "{report:?}");
        assert!(!pair.outbox.is_empty());
        assert!(pair.outbox.waits_for(&pair.a).is_some_and(|socket| socket.local_addr().is_ok()));
        expected.extend(pair.push(to, 10, 10, 2));
        let report = pair.send(Instant::now());
        assert_eq!((report.sent, report.blocked, report.lost.len()), (7, false, 0), "{report:?}");
        assert_eq!(pair.receive_bytes(V4, 10), expected);
    }
    assert!(pair.outbox.waits_for(&pair.a).is_none());
    pair.push(to, 10, 10, 0);
    pair.outbox.clear();
    assert_eq!(pair.send(Instant::now()).sent, 0);
}

#[test]
fn neighbours_of_one_destination_leave_together() {
    let mut pair = Pair::new(ALL);
    let to = pair.endpoint(V4);
    let mut expected = Vec::new();
    // Full ones, a shorter one, and one that may not be behind it; other bits; the other family.
    for (length, ecn) in [(100, 0), (100, 0), (200, 0), (30, 0), (100, 0), (100, 1)] {
        expected.extend(pair.push(to, length, 100, ecn));
    }
    let other = pair.push(pair.endpoint(V6), 100, 100, 1);
    with_faults(|_| {});
    pair.send_all(8);
    faults::edit(|faults| assert_eq!((faults.messages, faults.super_packets, faults.calls), (4, 1, 2)));
    assert_eq!(pair.receive_bytes(V4, 7), expected);
    assert_eq!(pair.receive_bytes(V6, 1), other);
}

#[test]
fn a_kernel_that_corrupts_equal_tails_gets_none() {
    let mut pair = Pair::with(ALL, Tails::Shorter);
    for to in [V4, V6] {
        for (length, whole, tail) in [
            (2 * 1452, false, false),
            (4 * 1452, true, true),
            (5 * 1452 - 1, true, false),
            (1452, false, false),
        ] {
            let mut expected = pair.push(pair.endpoint(to), length, 1452, 0);
            super_packets();
            pair.send_all(expected.len());
            expected.extend(tail.then(|| vec![0]));
            assert_eq!(super_packets() > 0, whole, "{length}");
            assert_eq!(pair.receive_bytes(to, expected.len()), expected);
        }
    }
    with_faults(|faults| faults.segmented = Some(libc::EIO));
    let expected = pair.push(pair.endpoint(V4), 4 * 1452, 1452, 0);
    pair.send_all(4);
    assert_eq!(pair.receive_bytes(V4, 4), expected, "no tail where it is cut");
}

#[test]
fn what_earlier_datagrams_met_does_not_stop_receiving() {
    let mut pair = Pair::new(ALL);
    let to = pair.endpoint(V4);
    // Nobody listens there, and the kernel is told so.
    let nobody = Sockets::bind(0, 0, NONE).map(|sockets| sockets.port()).expect("binds");
    let (mut outbox, closed) = (Outbox::new(Tails::Any), SocketAddr::from((Ipv4Addr::LOCALHOST, nobody)));
    outbox.push(0..10, 10, Endpoint { remote: closed, local: None }, 0);
    assert_eq!(outbox.send(&pair.b, &[0; 10], Instant::now()).sent, 1);
    for many in [true, false] {
        let expected = pair.push(to, 10, 10, 0);
        pair.send_all(1);
        with_faults(|faults| {
            faults.receiving = vec![libc::EHOSTUNREACH, libc::ECONNREFUSED, libc::EINTR];
            faults.receive_many = (!many).then_some(libc::ENOSYS);
        });
        assert_eq!(pair.receive_bytes(V4, 1), expected);
        let socket = pair.b.towards(&to.remote).expect("bound");
        assert_eq!(pair.inbox.receive(socket).expect("nothing is no error"), 0);
        with_faults(|faults| faults.receiving = vec![libc::ECONNREFUSED; 100]);
        assert_eq!(pair.inbox.receive(socket).expect("bounded"), 0);
        with_faults(|faults| faults.receiving = vec![libc::EBADF]);
        assert_eq!(pair.inbox.receive(socket).expect_err("of no use").raw_os_error(), Some(libc::EBADF));
        with_faults(|_| {});
    }
}

#[test]
fn empty_datagrams_are_passed_over() {
    let mut pair = Pair::new(ALL);
    let to = pair.endpoint(V4).remote;
    let socket = pair.a.towards(&to).expect("bound");
    socket.send_to(&[], &to.into()).expect("sends");
    socket.send_to(b"x", &to.into()).expect("sends");
    assert_eq!(pair.receive_bytes(V4, 1), [b"x".to_vec()]);
}

#[test]
fn a_taken_port_is_an_error_and_a_free_one_is_the_same_for_both_families() {
    let first = Sockets::bind(0, 7, ALL).expect("binds");
    assert_ne!(first.port(), 0);
    assert!(first.each().all(|socket| port_of(socket).ok() == Some(first.port())));
    assert!(first.each().all(|socket| socket.mark().ok() == Some(7)));
    first.mark(8).expect("root may mark");
    assert!(first.each().all(|socket| socket.mark().ok() == Some(8)));
    let taken = Sockets::bind(first.port(), 0, ALL).map(|_| ()).expect_err("taken");
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_family_that_is_not_there_is_reported() {
    let mut pair = Pair::new(ALL);
    pair.a.v6 = None;
    let expected = pair.push(pair.endpoint(V4), 10, 10, 0);
    pair.push(pair.endpoint(V6), 30, 10, 0);
    let report = pair.send(Instant::now());
    assert_eq!((report.sent, report.lost.len()), (1, 1), "{report:?}");
    assert_eq!(report.lost[0].datagrams, 3);
    assert_eq!(pair.receive_bytes(V4, 1), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_mixture_arrives_in_order_in_any_way(
        pushes in prop::collection::vec((any::<bool>(), 1usize..3000, 20usize..1500, 0u8..4, any::<bool>()), 1..80),
        gso in any::<bool>(),
        gro in any::<bool>(),
        segmented in prop::option::of(prop::sample::select(vec![libc::EIO, libc::EINVAL, libc::EMSGSIZE])),
        many in any::<bool>(),
        blocked in prop::option::of(0usize..40),
    ) {
        with_faults(|faults| {
            faults.segmented = segmented;
            faults.send_many = (!many).then_some(libc::ENOSYS);
            faults.receive_many = faults.send_many;
            faults.after = blocked.map(|after| (after, libc::EAGAIN));
        });
        let mut pair = Pair::new(Offload { gso, gro });
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let mut before = (V4, 100);
        for (is_v4, length, stride, ecn, like) in pushes {
            // Often like the one before, so that they join.
            let (to, stride) = if like { before } else { (if is_v4 { V4 } else { V6 }, stride) };
            before = (to, stride);
            let ecn = if like { 1 } else { ecn };
            let bytes = pair.push(pair.endpoint(to), length, stride, ecn);
            let list = if to == V4 { &mut v4 } else { &mut v6 };
            list.extend(bytes.into_iter().map(|bytes| (bytes, ecn)));
        }
        let mut sent = 0;
        for _ in 0..2 {
            let report = pair.send(Instant::now());
            prop_assert!(report.lost.is_empty() && report.stale.is_empty(), "{:?}", report);
            sent += report.sent;
        }
        prop_assert_eq!(sent, v4.len() + v6.len());
        for (to, expected) in [(V4, v4), (V6, v6)] {
            let came = pair.receive(to, expected.len()).into_iter().map(|came| (came.bytes, came.ecn));
            prop_assert!(came.eq(expected));
        }
    }
}

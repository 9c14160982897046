//! Super-packets of a real kernel, there and back. Needs root and `ip`.
//!
//! ```text
//! namespace 1: t0 10.77.0.1 fd77::1  <- cut, join ->  namespace 2: t0 10.77.0.2 fd77::2
//! ```

use std::io::{IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use socket2::{Domain, Socket, Type};

use super::packets::{is_valid, numbered};
use super::{Cut, Joiner, Joins, VnetHeader};
use crate::io::tun::{HEADER_BYTES, READ_BYTES, Tun, Written};

/// Packets of one read are at most as many as 64 KiB of the smallest segments that TCP sends.
const ARENA_BYTES: usize = 1 << 20;
/// Reads that are joined together.
const READS: usize = 8;

/// The sockets and the interface of a namespace, which lives as long as they do.
struct Side {
    tun: Tun,
    tcp: [Socket; 2],
    udp: UdpSocket,
}

/// The most packets that were in one super-packet.
#[derive(Default)]
struct Most {
    cut: AtomicUsize,
    joined: AtomicUsize,
}

impl Side {
    fn new(number: u8) -> Self {
        let made = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
            let tun = Tun::create("t0", 1420, true).expect("an interface");
            ip(&format!("addr add 10.77.0.{number}/24 dev t0"));
            ip(&format!("addr add fd77::{number}/64 dev t0 nodad"));
            ip("link set t0 up");
            let udp = UdpSocket::bind((format!("10.77.0.{number}"), 5000)).expect("binds");
            udp.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            let tcp = [Domain::IPV4, Domain::IPV6]
                .map(|domain| Socket::new(domain, Type::STREAM, None).expect("a socket of this namespace"));
            Self { tun, tcp, udp }
        });
        made.join().expect("a side")
    }
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status();
    assert!(done.is_ok_and(|status| status.success()), "ip {arguments}");
}

/// Takes what one interface has to the other, until nothing comes.
fn pass(from: &Tun, to: &Tun, joiner: &mut Joiner, most: &Most) {
    let (mut read, mut arena) = (vec![0; READ_BYTES], vec![0; ARENA_BYTES]);
    let mut used = 0;
    for _ in 0..READS {
        let Ok(length) = from.read(&mut read) else { break };
        let header = VnetHeader::read(read[..HEADER_BYTES].try_into().unwrap());
        let cut = Cut::new(&header, &read[HEADER_BYTES..length]).expect("the kernel's packet is well-formed");
        most.cut.fetch_max(cut.count(), Ordering::Relaxed);
        for index in 0..cut.count() {
            let range = used..used + cut.bytes(index);
            used = range.end + 32;
            let packet = &mut arena[range.clone()];
            cut.write(index, packet);
            let protocol = if packet[0] == 0x45 { packet[9] } else { packet[6] };
            assert!(!matches!(protocol, 6 | 17) || is_valid(packet), "{header:?}: packet {index}");
            joiner.add(&arena, range);
        }
    }
    joiner.flush(&mut arena, |slices: &[IoSlice<'_>]| {
        most.joined.fetch_max(slices.len() - 1, Ordering::Relaxed);
        assert_eq!(to.write(slices).expect("the interface is up"), Written::Whole);
    });
}

/// Runs a test while packets go between both sides.
fn between(test: impl FnOnce([&Side; 2], &Most)) {
    let sides = [Side::new(1), Side::new(2)];
    let (done, most) = (AtomicBool::new(false), Most::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut joiner = Joiner::new(Joins { tcp: true, udp: true });
            while !done.load(Ordering::Relaxed) {
                let mut fds =
                    [0, 1].map(|side: usize| PollFd::new(sides[side].tun.as_fd(), PollFlags::POLLIN));
                poll(&mut fds, 50_u16).expect("polls");
                pass(&sides[0].tun, &sides[1].tun, &mut joiner, &most);
                pass(&sides[1].tun, &sides[0].tun, &mut joiner, &most);
            }
        });
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test([&sides[0], &sides[1]], &most)));
        done.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Sends both ways at once what neither side's buffers hold.
fn exchange(sides: [&Side; 2], family: usize, address: &str) {
    let [dialling, listening] = sides.map(|side| &side.tcp[family]);
    let address: SocketAddr = address.parse().expect("an address");
    listening.bind(&address.into()).expect("binds");
    listening.listen(1).expect("listens");
    dialling.connect_timeout(&address.into(), Duration::from_secs(10)).expect("connects");
    let (accepted, _) = listening.accept().expect("accepts");
    let sent = numbered(3 << 20);
    let ends = [dialling.try_clone().expect("a descriptor"), accepted].map(TcpStream::from);
    std::thread::scope(|scope| {
        for end in &ends {
            end.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            end.set_write_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            let sent = &sent;
            scope.spawn(move || {
                let mut writer = end;
                writer.write_all(sent).expect("sends");
                end.shutdown(std::net::Shutdown::Write).expect("has sent all");
            });
            scope.spawn(move || {
                let (mut reader, mut received) = (end, Vec::new());
                reader.read_to_end(&mut received).expect("receives");
                assert!(received == *sent, "{} bytes of {}", received.len(), sent.len());
            });
        }
    });
}

#[test]
fn streams_of_both_families_arrive_through_super_packets() {
    between(|sides, most| {
        exchange(sides, 0, "10.77.0.2:80");
        exchange(sides, 1, "[fd77::2]:80");
        let (cut, joined) = (most.cut.load(Ordering::Relaxed), most.joined.load(Ordering::Relaxed));
        assert!(cut > 10 && joined > 10, "{cut} packets cut out of one, {joined} joined");
    });
}

#[test]
fn datagrams_that_were_sent_together_arrive_one_by_one() {
    between(|[a, b], most| {
        let payload = numbered(5500);
        setsockopt(&a.udp, UdpGsoSegment, &1000).expect("the kernel has UDP GSO");
        a.udp.send_to(&payload, "10.77.0.2:5000").expect("sends");
        let mut buffer = [0; 2000];
        for expected in payload.chunks(1000) {
            let length = b.udp.recv(&mut buffer).expect("receives");
            assert_eq!(&buffer[..length], expected);
        }
        assert_eq!(most.joined.load(Ordering::Relaxed), 6);
    });
}

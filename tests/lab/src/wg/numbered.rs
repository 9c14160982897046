//! Numbered UDP packets from one side to the other at a rate: how many arrive, whether they are what was sent, and none
//! twice. Sends and receives many with one system call, so that the tunnel is what is measured.

use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg, setsockopt};

use super::pace::Pace;
use super::pair::Side;
use super::seeded::Seeded;

/// Packets in one system call.
const BATCH: usize = 64;
const NUMBER_BYTES: usize = 8;
/// So long after the last one nothing is on its way any more; a relay holds back no longer.
const QUIET: Duration = Duration::from_millis(300);
/// What arrives while the receiver does not run shall wait rather than be lost.
const BUFFER_BYTES: usize = 32 << 20;

/// What is sent.
#[derive(Debug, Clone)]
pub struct Shape {
    /// How many packets.
    pub count: u64,
    /// How many of them a second.
    pub per_second: f64,
    /// Bytes of the UDP payload, at least 8; each packet takes the next length in turn.
    pub bytes: RangeInclusive<usize>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Arrived {
    /// Packets that were sent.
    pub sent: u64,
    /// Different packets that arrived.
    pub arrived: u64,
    /// Packets that had arrived before.
    pub twice: u64,
    /// Packets with other bytes than were sent.
    pub changed: u64,
    /// Seconds that sending took.
    pub seconds: f64,
}

impl Arrived {
    /// The share of packets that did not arrive.
    #[allow(clippy::cast_precision_loss)] // Far below 2^52.
    pub fn loss(&self) -> f64 {
        1.0 - self.arrived as f64 / self.sent.max(1) as f64
    }

    /// Packets that arrived in a second.
    #[allow(clippy::cast_precision_loss)]
    pub fn per_second(&self) -> f64 {
        self.arrived as f64 / self.seconds
    }
}

/// Two sockets that are joined through the tunnel.
#[derive(Debug)]
pub struct Numbered {
    sender: UdpSocket,
    receiver: UdpSocket,
}

impl Numbered {
    /// Makes the sockets.
    pub fn between(from: &Side, to: &Side) -> Self {
        let (source, target) = (from.inner(), to.inner());
        let receiver = to.within(move || UdpSocket::bind((target, 0)).expect("the address is there"));
        setsockopt(&receiver, RcvBufForce, &BUFFER_BYTES).expect("root may");
        receiver.set_read_timeout(Some(QUIET)).expect("above zero");
        let target = receiver.local_addr().expect("is bound");
        let sender = from.within(move || UdpSocket::bind((source, 0)).expect("the address is there"));
        sender.connect(target).expect("a route");
        Self { sender, receiver }
    }

    /// Sends them all, and waits until nothing comes any more.
    pub fn run(&self, shape: &Shape) -> Arrived {
        let ended = Arc::new(AtomicBool::new(false));
        let (socket, told) = (self.receiver.try_clone().expect("a socket"), Arc::clone(&ended));
        let bytes = shape.bytes.clone();
        let receiving = std::thread::spawn(move || receive(&socket, &bytes, &told));
        let (sent, seconds) = send(&self.sender, shape);
        ended.store(true, Ordering::Relaxed);
        let got = receiving.join().expect("no panic");
        Arrived { sent, seconds, ..got }
    }
}

fn length(number: u64, bytes: &RangeInclusive<usize>) -> usize {
    let span = (bytes.end() - bytes.start() + 1) as u64;
    bytes.start() + usize::try_from(number % span).expect("inside a packet")
}

fn fill(packet: &mut [u8], number: u64) {
    let (head, rest) = packet.split_at_mut(NUMBER_BYTES);
    head.copy_from_slice(&number.to_le_bytes());
    Seeded::new(number).fill(rest);
}

fn send(socket: &UdpSocket, shape: &Shape) -> (u64, f64) {
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    let mut packets = vec![vec![0; *shape.bytes.end()]; BATCH];
    let (mut pace, began) = (Pace::new(shape.per_second), Instant::now());
    let mut sent = 0;
    while sent < shape.count {
        let left = usize::try_from(shape.count - sent).unwrap_or(BATCH).min(BATCH);
        let due = pace.due(left);
        let numbered = packets.iter_mut().take(due).zip(sent..);
        let slices: Vec<[IoSlice<'_>; 1]> = numbered
            .map(|(packet, number)| {
                let packet = &mut packet[..length(number, &shape.bytes)];
                fill(packet, number);
                [IoSlice::new(packet)]
            })
            .collect();
        let result =
            sendmmsg(socket.as_raw_fd(), &mut headers, &slices, [None; BATCH], [], MsgFlags::empty());
        match result {
            Ok(done) => sent += done.count() as u64,
            // Somebody's ICMP message, or no room: the packet counts as not sent, and its number is used again.
            Err(Errno::ECONNREFUSED | Errno::ENOBUFS | Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => panic!("packets cannot be sent: {error}"),
        }
    }
    (sent, began.elapsed().as_secs_f64())
}

fn receive(socket: &UdpSocket, bytes: &RangeInclusive<usize>, ended: &AtomicBool) -> Arrived {
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    let mut packets = vec![vec![0; 1 << 16]; BATCH];
    let (mut got, mut seen) = (Arrived::default(), Vec::<u64>::new());
    let mut expected = vec![0; *bytes.end()];
    loop {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            packets.iter_mut().map(|packet| [IoSliceMut::new(packet)]).collect();
        let flags = MsgFlags::MSG_WAITFORONE;
        let lengths: Vec<usize> =
            match recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None) {
                Ok(messages) => messages.map(|message| message.bytes).collect(),
                Err(Errno::EAGAIN) if ended.load(Ordering::Relaxed) => return got,
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(error) => panic!("packets cannot be received: {error}"),
            };
        for (packet, arrived) in packets.iter().zip(lengths) {
            let packet = &packet[..arrived];
            let number = packet.first_chunk().map(|head| u64::from_le_bytes(*head));
            let Some(number) = number.filter(|number| length(*number, bytes) == arrived) else {
                got.changed += 1;
                continue;
            };
            let expected = &mut expected[..arrived];
            fill(expected, number);
            if packet != expected {
                got.changed += 1;
            } else if is_new(&mut seen, number) {
                got.arrived += 1;
            } else {
                got.twice += 1;
            }
        }
    }
}

/// Whether the number was not there before; then it is.
fn is_new(seen: &mut Vec<u64>, number: u64) -> bool {
    let (word, bit) = (usize::try_from(number / 64).expect("a count"), 1 << (number % 64));
    if seen.len() <= word {
        seen.resize(word + 1, 0);
    }
    let new = seen[word] & bit == 0;
    seen[word] |= bit;
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Numbered {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port");
        receiver.set_read_timeout(Some(QUIET)).expect("above zero");
        // All of a test's packets fit, also where nobody reads for a while.
        setsockopt(&receiver, RcvBufForce, &BUFFER_BYTES).expect("root may");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a port");
        sender.connect(receiver.local_addr().expect("is bound")).expect("a route");
        Numbered { sender, receiver }
    }

    #[test]
    fn what_is_sent_arrives_once() {
        let shape = Shape { count: 1_000, per_second: 10_000.0, bytes: 8..=1200 };
        let got = loopback().run(&shape);
        assert_eq!((got.sent, got.arrived, got.twice, got.changed), (1_000, 1_000, 0, 0));
        assert!(got.loss().abs() < f64::EPSILON && got.seconds > 0.09, "{got:?}");
    }

    #[test]
    fn a_copy_and_a_change_are_seen() {
        let pair = loopback();
        let mut packet = [0; 30];
        fill(&mut packet, 22);
        pair.sender.send(&packet).expect("is sent");
        packet[29] ^= 1;
        pair.sender.send(&packet).expect("is sent");
        let shape = Shape { count: 23, per_second: 10_000.0, bytes: 8..=100 };
        let got = pair.run(&shape);
        assert_eq!((got.arrived, got.twice, got.changed), (23, 1, 1));
    }
}

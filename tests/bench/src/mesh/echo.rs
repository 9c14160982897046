//! The first echo replies (ICMP, RFC 792) that reach somebody else's network namespace. Sends often, so that a reply is
//! noticed within milliseconds of the moment from which it could come.

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

/// Between two requests to one target: what a measurement may be too long by.
const INTERVAL: Duration = Duration::from_millis(5);
/// Everything measured with this is judged against a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// Echo request, code 0, checksum, then what tells ours from others'.
const REQUEST: [u8; 12] = [8, 0, 0, 0, 0x57, 0x72, 0, 1, b'b', b'e', b'n', b'c'];
const REPLY_TYPE: u8 = 0;

/// Pings the targets from the network namespace of a process until each has answered once, and gives the times.
///
/// The thread panics if a target does not answer in twenty seconds.
pub fn first_replies(process: u32, targets: Vec<Ipv4Addr>) -> JoinHandle<Vec<Instant>> {
    let namespace = File::open(format!("/proc/{process}/ns/net")).expect("the process lives");
    thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a network namespace");
        ping(&targets)
    })
}

fn ping(targets: &[Ipv4Addr]) -> Vec<Instant> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).expect("root may ping");
    let request = request();
    let mut replies: Vec<Option<Instant>> = vec![None; targets.len()];
    let give_up = Instant::now() + PATIENCE;
    while replies.iter().any(Option::is_none) {
        assert!(Instant::now() < give_up, "no echo from one of {targets:?} in {PATIENCE:?}");
        for (target, _) in targets.iter().zip(&replies).filter(|(_, reply)| reply.is_none()) {
            // Until there is a tunnel there may be no route.
            let _ = socket.send_to(&request, &SocketAddrV4::new(*target, 0).into());
        }
        let next = Instant::now() + INTERVAL;
        while let Some(source) = receive(&socket, next) {
            let at = Instant::now();
            let index = targets.iter().position(|target| *target == source);
            if let Some(reply) = index.map(|index| &mut replies[index]) {
                reply.get_or_insert(at);
            }
        }
    }
    replies.into_iter().flatten().collect()
}

/// Who answered us, if somebody does before `until`.
fn receive(socket: &Socket, until: Instant) -> Option<Ipv4Addr> {
    let mut packet = [0; 256];
    loop {
        let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        socket.set_read_timeout(Some(left)).expect("a timeout above zero");
        let length = (&mut &*socket).read(&mut packet).ok()?;
        // A raw socket gives the IPv4 header too (raw(7)); its length counts words.
        let header = usize::from(packet[0] & 0xf) * 4;
        let Some(message) = packet.get(header..length) else { continue };
        if message.first() == Some(&REPLY_TYPE) && message.get(4..) == Some(&REQUEST[4..]) {
            return Some(Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]));
        }
    }
}

fn request() -> [u8; 12] {
    let mut request = REQUEST;
    request[2..4].copy_from_slice(&checksum(&REQUEST).to_be_bytes());
    request
}

/// RFC 1071, over a whole number of words.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(folded & 0xffff).expect("16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_its_checksum_sums_to_nothing() {
        assert_eq!(checksum(&request()), 0);
        assert_ne!(checksum(&REQUEST), 0);
    }
}
